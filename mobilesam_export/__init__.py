"""MobileSAM to Core ML and ONNX files, proven against PyTorch; see README.md."""

from importlib.metadata import version

__version__ = version("mobilesam-export")
