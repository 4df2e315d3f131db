"""MobileSAM to Core ML, TFLite and ONNX files, proven against PyTorch; see README.md."""

__version__: str


def __getattr__(name: str) -> str:
    """The version, looked up when it is asked for: reading all metadata takes a third of --help."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mobilesam-export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
