"""Convolutions, matrix products and attention."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op
from mobilesam_export.mil.padding import spatial_padding, torch_padding

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@op("conv")
def conv(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: list[int] | None = None,
    pad_type: str = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """`x` (N, C, ...) convolved with weight (C', C / groups, ...), plus bias (C')."""
    rank = x.dim() - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    window = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = spatial_padding(pad_type, pad, x.shape[2:], window, strides)
    if all(before == after for before, after in pads):
        amount = [before for before, _ in pads]
    else:
        x, amount = F.pad(x, torch_padding(pads)), [0] * rank
    return _CONV[rank](x, weight, bias, strides, amount, dilations, groups)


@op("conv_transpose")
def conv_transpose(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: list[int] | None = None,
    output_shape: list[int] | None = None,
    pad_type: str = "valid",
    strides: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """`x` (N, C, ...) transposed-convolved with weight (C, C' / groups, ...), plus bias (C').

    The full result is cropped by `pad`; output_shape may keep more at the end than `pad` would.
    """
    rank = x.dim() - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    if pad_type not in ("valid", "custom"):
        raise ValueError(f"pad_type {pad_type!r} is unknown")
    pads = spatial_padding(pad_type, pad, x.shape[2:], weight.shape[2:], strides)
    full = [
        (size - 1) * stride + (k - 1) * dilation + 1
        for size, stride, k, dilation in zip(
            x.shape[2:], strides, weight.shape[2:], dilations, strict=True
        )
    ]
    sizes = [size - sum(pair) for size, pair in zip(full, pads, strict=True)]
    if output_shape is not None:
        sizes = output_shape[2:]
    # torch can lengthen the result at the end; what that holds is the bias.
    longer = [max(0, n + b - size) for n, (b, _), size in zip(sizes, pads, full, strict=True)]
    result = _CONV_TRANSPOSE[rank](x, weight, bias, strides, 0, longer, groups, dilations)
    for axis, (size, (before, _)) in enumerate(zip(sizes, pads, strict=True)):
        result = result.narrow(axis + 2, before, size)
    return result


@op("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` (..., C) times weight (C', C) transposed, plus bias (C')."""
    return F.linear(x, weight, bias)


@op("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Product of the last two axes of x and y, which may be transposed first."""
    x = x.mT if transpose_x and x.dim() > 1 else x
    return x @ (y.mT if transpose_y and y.dim() > 1 else y)


@op("einsum")
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """Sum of products that the equation says, as numpy's."""
    result: Tensor = torch.einsum(equation, *values)
    return result


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """softmax(query @ key transposed / sqrt(E) + mask) @ value.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, E').
        attn_mask: broadcastable to (..., L, S); added, or, if bool, true where a key takes part.

    Returns:
        (..., L, E').
    """
    scores = (query / math.sqrt(query.shape[-1])) @ key.mT
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value
