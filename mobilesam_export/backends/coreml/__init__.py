"""Core ML packages (ML Programs), by coremltools, run by Core ML or by the MIL interpreter."""
