"""Harmless classes that may accompany the weights in a pickle: skipped, never constructed.

`torch.load(weights_only=True)` refuses every class but tensors and plain containers. Training
loops save more: losses as numpy scalars, command lines as a Namespace. Their names are allowed
here and stand for `Inert`, which takes any arguments and does nothing with them, so that not even
numpy's own constructors run on what a stranger's file says. Subclasses of dict become ordinary
dictionaries: the weights may lie in one.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable

import torch

NUMPY = ("numpy.ndarray", "numpy.dtype", "numpy.matrix", "numpy.bool_")
# numpy 2 has renamed the module; files of both are about.
REBUILT = tuple(
    f"numpy.{core}.multiarray.{name}"
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
)
SETTINGS = (
    *("argparse.Namespace", "types.SimpleNamespace", "typing.Any"),
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "String")),
    "mmengine.logging.history_buffer.HistoryBuffer",
)
# Settings of TinyViT's own training (yacs), Lightning, MMEngine and others.
DICTIONARIES = (
    *("collections.defaultdict", "yacs.config.CfgNode", "easydict.EasyDict", "addict.addict.Dict"),
    "mmengine.config.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    *(
        f"{module}.utilities.data.AttributeDict"
        for module in ("lightning.fabric", "lightning_fabric")
    ),
)
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


class PlainDictionary:
    """Stands for a subclass of dict: the unpickler fills in its items, its methods are not used."""

    def __new__(cls, *_: object) -> "OrderedDict[object, object]":  # type: ignore[misc]
        return OrderedDict()  # the only kind to which torch's unpickler adds items and attributes


def safe_globals() -> contextlib.AbstractContextManager[None]:
    """Let `torch.load` skip these classes while inside; every other stays refused."""
    stand_ins: dict[Callable[..., object], tuple[str, ...]] = {
        Inert: (*NUMPY, *REBUILT, *SETTINGS, *PATHS, *DATES),
        PlainDictionary: DICTIONARIES,
    }
    return torch.serialization.safe_globals(
        [(stand_in, name) for stand_in, names in stand_ins.items() for name in names]
    )
