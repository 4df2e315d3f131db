"""Activations to 8-bit integers and back (iOS 17)."""

from torch import Tensor

from mobilesam_export.mil.kernels import op

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@op("quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """round(input / scale), halves to even, plus zero_point, kept in the range of the type."""
    if output_dtype not in _RANGES:
        raise ValueError(f"output_dtype {output_dtype!r} is unknown")
    result = (input / along(scale, input, axis)).round()
    if zero_point is not None:
        result = result + along(zero_point, input, axis)
    return result.clamp(*_RANGES[output_dtype]).int()


@op("dequantize")
def dequantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """(input - zero_point) * scale."""
    offset = input if zero_point is None else input - along(zero_point, input, axis)
    return offset * along(scale, input, axis)


def along(vector: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """(n) in a shape that goes with the axis of x that has size n; a scalar as it is."""
    if vector.dim() == 0 or vector.numel() == 1:
        return vector.reshape(())
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    shape = [1] * x.dim()
    shape[axis] = -1
    return vector.reshape(shape)
