"""Harmless classes that may accompany the weights in a pickle: skipped, never constructed.

`torch.load(weights_only=True)` refuses every class but tensors and plain containers. Training
loops save more: losses as numpy scalars, command lines as a Namespace. Their names are allowed
here and stand for `Inert`, which takes any arguments and does nothing with them, so that not even
numpy's own constructors run on what a stranger's file says.
"""

import contextlib

import torch

NUMPY = ("numpy.ndarray", "numpy.dtype", "numpy.matrix", "numpy.bool_")
# numpy 2 has renamed the module; files of both are about.
REBUILT = tuple(
    f"numpy.{core}.multiarray.{name}"
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
)
SETTINGS = ("argparse.Namespace", "types.SimpleNamespace")
# Python 3.13 has moved them to pathlib._local, 3.14 back.
PATHS = tuple(
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
)
DATES = tuple(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta"))


class Inert:
    """Stands for an object that is no weight."""

    def __new__(cls, *_: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Take the arguments of any constructor."""

    def __setstate__(self, _: object) -> None:
        """Take the state of any object."""


def safe_globals() -> contextlib.AbstractContextManager[None]:
    """Let `torch.load` skip these classes while inside; every other stays refused."""
    names = (*NUMPY, *REBUILT, *SETTINGS, *PATHS, *DATES)
    return torch.serialization.safe_globals([(Inert, name) for name in names])
