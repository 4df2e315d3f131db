"""A source (a name or a file) -> a checked state dict with its provenance."""
