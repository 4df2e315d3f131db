"""The weight file of a Core ML package, format version 2: offset of a constant -> its elements.

The file is a 64-byte header and then, for each constant, a 64-byte record that says what it is
and where its bytes are. Types below one byte are packed, the least significant bits first.
"""

import struct
from pathlib import Path

import numpy as np

from mobilesam_export.contract import Array
from mobilesam_export.errors import BundleError

_VERSION = 2
_SENTINEL = 0xDEADBEEF
_HEADER = struct.Struct("<II56x")  # number of constants, version
_RECORD = struct.Struct("<IIQQ40x")  # sentinel, type, bytes, offset of the bytes

# The code of each type in a record.
_CODES = {
    "float16": 1,
    "float32": 2,
    "uint8": 3,
    "int8": 4,
    "int16": 6,
    "uint16": 7,
    "int4": 8,
    "uint1": 9,
    "uint2": 10,
    "uint4": 11,
    "uint3": 12,
    "uint6": 13,
    "int32": 14,
    "uint32": 15,
}
_PACKED_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}


class WeightFile:
    """A weight file in memory."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            BundleError: it is missing, or not a weight file of a version known here.
        """
        self._path = path
        try:
            self._data = path.read_bytes()
        except OSError as exc:
            raise BundleError(
                f"weight file {path} cannot be read ({exc.strerror}); export the package again"
            ) from exc
        if len(self._data) < _HEADER.size:
            raise self._damaged(f"is {len(self._data)} bytes, shorter than its header")
        _, version = _HEADER.unpack_from(self._data)
        if version != _VERSION:
            raise self._damaged(f"has format version {version}, expected {_VERSION}")

    def read(self, offset: int, dtype: str, count: int) -> Array:
        """The `count` elements of the constant whose record is at `offset`.

        Returns:
            (count,) array; a type below one byte as int8 or uint8.

        Raises:
            BundleError: the record is damaged, another constant's, or the file is too short.
        """
        if offset + _RECORD.size > len(self._data):
            raise self._damaged(f"ends at byte {len(self._data)}, before the record at {offset}")
        sentinel, code, size, start = _RECORD.unpack_from(self._data, offset)
        expected_size = packed_size(dtype, count)
        if sentinel != _SENTINEL or code != _CODES.get(dtype) or size != expected_size:
            raise self._damaged(f"has no {dtype} constant of {expected_size} bytes at {offset}")
        if start + size > len(self._data):
            raise self._damaged(f"ends at byte {len(self._data)}, expected {start + size} or more")
        return unpack(self._data[start : start + size], dtype, count)

    def _damaged(self, fault: str) -> BundleError:
        return BundleError(f"weight file {self._path} {fault}; export the package again")


def packed_size(dtype: str, count: int) -> int:
    """Size in bytes of `count` elements of this type."""
    if dtype in _PACKED_BITS:
        return (count * _PACKED_BITS[dtype] + 7) // 8
    return count * np.dtype(dtype).itemsize


def unpack(data: bytes, dtype: str, count: int) -> Array:
    """Bytes -> (count,) elements of this type; those below one byte as int8 or uint8."""
    bits = _PACKED_BITS.get(dtype)
    if bits is None:
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), count)
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    digits = stream[: count * bits].reshape(count, bits)
    values = np.packbits(digits, axis=1, bitorder="little")[:, 0]
    if dtype.startswith("u"):
        return values
    sign = 1 << (bits - 1)  # two's complement
    return ((values.astype(np.int16) ^ sign) - sign).astype(np.int8)
