"""Compressed weights -> dense ones (constexpr operations), of iOS 16 and of iOS 18.

Both systems have operations of the same name with other parameters; an iOS 16 one is known by its
`shape`, and has its indices or mask packed in bytes, the least significant bits first.
"""

import math

import torch
from torch import Tensor

from mobilesam_export.mil.kernels import op
from mobilesam_export.mil.ops.quantization import along
from mobilesam_export.mil.weights import unpack


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """`scale * (quantized_data - zero_point)`, along one axis."""
    offset = quantized_data - along(zero_point, quantized_data, axis)
    return along(scale, quantized_data, axis) * offset


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(
    data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    """`scale * (data - offset)`, each scale and offset for one block of data."""
    shifted = data if offset is None else data - _spread(offset, data.shape)
    return _spread(scale, data.shape) * shifted


@op("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """A float16 constant as float32."""
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype {output_dtype!r} is unknown")
    return source_val


@op("constexpr_lut_to_dense", exact=True)
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: list[int] | None = None, vector_axis: int | None = None
) -> Tensor:
    """Entries of look-up tables.

    Args:
        indices: shaped as the result; for iOS 16, with `shape`, packed bytes.
        lut: (groups on each axis..., entries, vector size); for iOS 16 (entries).
        shape: of the result, iOS 16 only.
        vector_axis: along which the elements of an entry lie, if there are several.
    """
    if shape is not None:
        bits = int(math.log2(len(lut)))
        return lut[_unpacked(indices, bits, shape).long()]
    vectors = _entries(indices, lut)
    if lut.shape[-1] == 1:
        return vectors[..., 0]
    place = _checked_axis(vector_axis, indices)
    return vectors.movedim(-1, place + 1).flatten(place, place + 1)


@op("constexpr_sparse_to_dense", exact=True)
def constexpr_sparse_to_dense(
    nonzero_data: Tensor, mask: Tensor, shape: list[int] | None = None
) -> Tensor:
    """nonzero_data where mask is set, in row-major order, 0 elsewhere."""
    bits = mask if shape is None else _unpacked(mask, 1, shape)
    return _dense(nonzero_data, bits)


@op("constexpr_lut_to_sparse", exact=True)
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> list[Tensor]:
    """constexpr_lut_to_dense on the elements that a mask keeps: new mask and elements."""
    dense = constexpr_lut_to_dense(
        _dense(indices_nonzero_data, indices_mask), lut, None, vector_axis
    )
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], _checked_axis(vector_axis, indices_mask))
    return [mask, dense[mask != 0]]


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> list[Tensor]:
    """constexpr_blockwise_shift_scale on the elements that a mask keeps: mask and elements."""
    dense = constexpr_blockwise_shift_scale(_dense(nonzero_data, data_mask), scale, offset)
    return [data_mask, dense[data_mask != 0]]


def _dense(values: Tensor, mask: Tensor) -> Tensor:
    if int((mask != 0).sum()) != values.numel():
        raise ValueError(f"{values.numel()} elements for a mask of {int((mask != 0).sum())}")
    result = torch.zeros(mask.shape, dtype=values.dtype)
    result[mask != 0] = values
    return result


def _unpacked(packed: Tensor, bits: int, shape: list[int]) -> Tensor:
    dtype = f"uint{bits}"
    data = bytes(packed.reshape(-1).tolist())
    return torch.from_numpy(unpack(data, dtype, math.prod(shape)).copy()).int().reshape(shape)


def _spread(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Each element repeated over its block, to the full shape."""
    for axis, size in enumerate(shape):
        if size % blocks.shape[axis]:
            raise ValueError(f"{tuple(shape)} cannot be cut into {tuple(blocks.shape)} blocks")
        if blocks.shape[axis] not in (1, size):  # 1 broadcasts
            blocks = blocks.repeat_interleave(size // blocks.shape[axis], axis)
    return blocks


def _entries(indices: Tensor, lut: Tensor) -> Tensor:
    """(..., vector size): for each index the entry of its group's table."""
    groups, (entries, size) = lut.shape[:-2], lut.shape[-2:]
    if any(n % g for n, g in zip(indices.shape, groups, strict=True)):
        raise ValueError(f"{tuple(indices.shape)} cannot be cut into {tuple(groups)} groups")
    table = torch.zeros((), dtype=torch.int64)
    for axis, (n, g) in enumerate(zip(indices.shape, groups, strict=True)):
        group = torch.arange(n) // (n // g)
        table = table * g + group.reshape(-1, *[1] * (indices.dim() - axis - 1))
    return lut.reshape(-1, size)[table * entries + indices]


def _checked_axis(vector_axis: int | None, indices: Tensor) -> int:
    if vector_axis is None:
        raise ValueError("a table of vectors needs a vector_axis")
    return vector_axis % indices.dim()
