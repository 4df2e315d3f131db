"""Exact algebra on weights that leaves less for a graph to do. Sums are taken in float64."""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mobilesam_export.model import tiny_vit

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def fold_batch_norm(pair: tiny_vit.Conv2dBN) -> nn.Conv2d:
    """Convolution and batch norm as one convolution with bias."""
    conv, norm = pair.c, pair.bn
    variance, mean = norm.running_var, norm.running_mean
    assert variance is not None
    assert mean is not None
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - mean.double() * scale
    return convolution(weight, bias, stride=conv.stride[0], groups=conv.groups)


def fold_pixel_std(conv: nn.Conv2d, std: tuple[float, ...]) -> nn.Conv2d:
    """Let the first convolution take pixels that are centred but not divided by `std`.

    Only the scale can move into it. Its input is zero-padded after normalisation, so a mean
    folded into its bias would be subtracted from the border as well.
    """
    weight = conv.weight.double() / torch.tensor(std, dtype=torch.float64)[:, None, None]
    bias = conv.bias
    assert bias is not None
    return convolution(weight, bias.double(), stride=conv.stride[0], groups=conv.groups)


class Chunk(NamedTuple):
    """Some of the hidden channels between two 1x1 convolutions."""

    expand: nn.Conv2d  # (hidden / chunks, C)
    project: nn.Conv2d  # (C, hidden / chunks); only the first chunk carries the bias


def split_hidden(expand: nn.Conv2d, project: nn.Conv2d, chunks: int) -> list[Chunk]:
    """Cut an expansion into chunks of its hidden channels; their results add up to the whole's.

    What lies between works on each channel alone, so nothing else changes, and only one chunk of
    the expanded map has to be held at a time.
    """
    hidden = expand.out_channels
    assert hidden % chunks == 0
    assert expand.bias is not None
    assert project.bias is not None
    return [
        Chunk(
            pointwise(expand.weight[rows, :, 0, 0], expand.bias[rows]),
            pointwise(project.weight[:, rows, 0, 0], None if index else project.bias),
        )
        for index, rows in enumerate(torch.arange(hidden).chunk(chunks))
    ]


def split_depthwise(conv: nn.Conv2d, chunks: int) -> list[nn.Conv2d]:
    """A depthwise convolution as several, each of a chunk of the channels."""
    assert conv.bias is not None
    return [
        convolution(conv.weight[rows], conv.bias[rows], stride=conv.stride[0], groups=len(rows))
        for rows in torch.arange(conv.groups).chunk(chunks)
    ]


def fold_norm(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out) of `linear` after a LayerNorm without scale and bias."""
    weight = linear.weight.double()
    bias = linear.bias.double() + weight @ norm.bias.double()
    return weight * norm.weight.double(), bias


class AttentionWeights(NamedTuple):
    """Window attention on tokens normalised without scale and bias. float64, C channels."""

    q: Tensor  # (C, C), carries 1 / sqrt(C / heads)
    q_bias: Tensor  # (C)
    k: Tensor  # (C, C), needs no bias
    v: Tensor  # (C, C), needs no bias
    proj: Tensor  # (C, C)
    proj_bias: Tensor  # (C), carries the bias of v
    bias: Tensor  # (heads, tokens, tokens)


def fold_attention(attention: tiny_vit.Attention) -> AttentionWeights:
    """Split q, k and v, fold the norm and the scale, and get rid of the biases of k and v.

    A constant added to every key adds the same to all logits of a query, which softmax
    ignores; a constant added to every value comes out of the average unchanged, so `proj` can
    add it. A padded token, whose normalised value is zero, then has k = v = 0 exactly as a
    window that was zero-padded after these projections, and that is the cheap place to pad.
    """
    heads, width = attention.heads, attention.proj.in_features
    weight, bias = fold_norm(attention.norm, attention.qkv)
    weights = weight.view(heads, 3, width // heads, width).transpose(0, 1).reshape(3, width, width)
    q_bias, _, v_bias = bias.view(heads, 3, width // heads).transpose(0, 1).reshape(3, width)
    proj = attention.proj.weight.double()
    scale = (width // heads) ** -0.5
    return AttentionWeights(
        q=weights[0] * scale,
        q_bias=q_bias * scale,
        k=weights[1],
        v=weights[2],
        proj=proj,
        proj_bias=attention.proj.bias.double() + proj @ v_bias,
        bias=attention.bias().double(),
    )


def centered(weight: Tensor, bias: Tensor, width: int) -> nn.Linear:
    """nn.Linear with this weight (out, in) and bias (out), less the mean of each `width` outputs.

    The next layer must be a LayerNorm over them, which would subtract that mean.
    """
    rows, values = weight.reshape(-1, width, weight.shape[1]), bias.reshape(-1, width)
    return linear(
        (rows - rows.mean(1, keepdim=True)).flatten(0, 1),
        (values - values.mean(1, keepdim=True)).flatten(),
    )


def weight(layer: nn.Module) -> Tensor:
    """Of a layer, float64."""
    return layer.get_parameter("weight").detach().double()


def bias(layer: nn.Module) -> Tensor:
    """Of a layer, float64."""
    return layer.get_parameter("bias").detach().double()


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """nn.Linear in float32 with this weight (out, in) and bias (out)."""
    width_out, width_in = weight.shape
    layer = nn.Linear(width_in, width_out, bias=bias is not None)
    return _filled(layer, weight, bias)


def pointwise(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """A linear layer as a 1x1 convolution, for channel-first maps."""
    width_out, width_in = weight.shape
    layer = nn.Conv2d(width_in, width_out, 1, bias=bias is not None)
    return _filled(layer, weight[:, :, None, None], bias)


def convolution(weight: Tensor, bias: Tensor, *, stride: int, groups: int) -> nn.Conv2d:
    """nn.Conv2d in float32 that keeps the map's size, but for its stride.

    Args:
        weight: (out, in / groups, k, k), k odd.
        bias: (out).
        stride: of the kernel.
        groups: of channels.
    """
    width_out, width_in, kernel, _ = weight.shape
    layer = nn.Conv2d(width_in * groups, width_out, kernel, stride, kernel // 2, groups=groups)
    return _filled(layer, weight, bias)


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    layer.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.float(), requires_grad=False)
    return layer
