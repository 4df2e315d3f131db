"""Constants that are written in a specification itself (small ones) -> numpy arrays."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.contract import Array
from mobilesam_export.errors import BackendError, BundleError
from mobilesam_export.mil.weights import packed_size, unpack

Constant = Array | str
Message = Any  # protobuf's generated classes are untyped

# Which field of a protobuf TensorValue holds which types; all others are in `bytes`.
_FIELDS = {
    "float32": "floats",
    "int32": "ints",
    "bool": "bools",
    "int64": "longInts",
    "float64": "doubles",
}


def read_constant(message: Message, dtype: str, shape: Sequence[int], path: Path) -> Constant:
    """An ImmediateValue message -> an array of `shape`, or a str.

    Raises:
        BundleError: the number of elements differs from the shape's.
        BackendError: it is a list or dictionary.
    """
    if message.WhichOneof("value") != "tensor":
        raise BackendError(f"{path} has a constant that is no tensor; expected tensors only")
    tensor = message.tensor
    count = math.prod(shape)
    if dtype == "string":
        if shape or len(tensor.strings.values) != 1:
            raise BackendError(f"{path} has a list of strings as a constant; expected one string")
        return str(tensor.strings.values[0])
    field = tensor.WhichOneof("value")
    if dtype in _FIELDS and field == _FIELDS[dtype]:
        values = np.array(getattr(tensor, field).values, dtype)
    elif field == "bytes" and len(tensor.bytes.values) == packed_size(dtype, count):
        values = unpack(tensor.bytes.values, dtype, count)
    elif field == "ints" and dtype in ("int16", "uint16"):
        values = np.array(tensor.ints.values, dtype)
    else:
        values = np.empty(0 if count else 1)  # matches no count: reported below
    if values.size != count:
        raise BundleError(
            f"specification of {path} is damaged: a constant of {count} {dtype} has other contents;"
            " export the package again"
        )
    return values.reshape(tuple(shape))
