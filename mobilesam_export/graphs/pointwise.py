"""Decoders for runtimes that take or add up convolutions better than products of matrices."""

import copy

import torch
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH, Frame
from mobilesam_export.graphs import folding
from mobilesam_export.graphs.attention_sets import Reading
from mobilesam_export.graphs.decoder import Attention, HyperNetworks, MaskTransformer

TERMS = 64  # of a short product; with more, float16 sums lose bits


class Pointwise(nn.Conv2d):
    """A linear layer as a 1x1 convolution: (1, T, C) or (1, A, B, C) -> the same with C'."""

    def __init__(self, linear: nn.Linear) -> None:
        bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, 1, bias=bias)
        weight = linear.weight.detach()[:, :, None, None].clone()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = super().forward(x.permute(0, 2, 1)[:, :, None])
        return y[:, :, 0].permute(0, 2, 1)


class Upsampling(nn.Module):
    """A transposed convolution of kernel 2 and stride 2, without TRANSPOSE_CONV.

    No two products of it fall on the same pixel: the two rows that a row becomes are two 1x1
    convolutions, whose channels are the two columns. (1, C, H, W) -> (1, C', 2H, 2W).
    """

    def __init__(self, conv: nn.ConvTranspose2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.width = size, conv.out_channels
        weight = folding.weight(conv)  # (C, C', rows, columns)
        bias = None if conv.bias is None else folding.bias(conv).repeat(2)
        self.rows = nn.ModuleList(
            folding.pointwise(weight[:, :, row].permute(2, 1, 0).flatten(0, 1), bias)
            for row in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size
        rows = [
            row(x).permute(0, 2, 3, 1).reshape(1, height, 1, 2 * width * self.width)
            for row in self.rows
        ]
        y = torch.cat(rows, dim=2)
        return y.reshape(1, 2 * height, 2 * width, self.width).permute(0, 3, 1, 2)


class GroupedHyperNetworks(nn.Module):
    """`HyperNetworks` as 1x1 convolutions of four groups, one for each MLP."""

    def __init__(self, networks: HyperNetworks) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _grouped(networks.get_buffer(f"weight{depth}"), networks.get_buffer(f"bias{depth}"))
            for depth in range(3)
        )

    def forward(self, tokens: Tensor) -> Tensor:  # (4, 1, C) -> (4, 1, 32)
        x = tokens.reshape(1, -1, 1, 1)
        for depth, layer in enumerate(self.layers):
            x = layer(x.relu() if depth else x)
        return x.reshape(len(tokens), 1, -1)


def upsampled(layers: nn.Sequential, size: Frame) -> nn.Sequential:
    """The decoder's upscaling with both transposed convolutions as 1x1 convolutions.

    Args:
        layers: of which the first and the fourth are transposed convolutions.
        size: of the encoder's input.
    """
    made = list(layers)
    for place, stride in ((0, PATCH), (3, PATCH // 2)):
        conv = made[place]
        assert isinstance(conv, nn.ConvTranspose2d)
        made[place] = Upsampling(conv, size.over(stride))
    return nn.Sequential(*made)


def with_short_products(module: nn.Module, size: Frame) -> nn.Module:
    """A copy of a decoder for runtimes that add up products of matrices in float16.

    Linear layers and transposed convolutions are 1x1 convolutions, and averages over the image are
    sums of short products. Names of layers stay, but for those of hypernetworks.

    Args:
        module: in another form; parts of it may be the model's own, which is why it is copied.
        size: of the encoder's input.
    """
    made = copy.deepcopy(module)
    positions = (size.side // PATCH) ** 2  # with those of a rectangle's padding
    for parent in list(made.modules()):
        if isinstance(parent, MaskTransformer):
            parent.upscaling = upsampled(parent.upscaling, size)
        if isinstance(parent, Reading) or (
            isinstance(parent, Attention) and parent.keys == positions
        ):
            parent.terms = next(n for n in range(TERMS, 0, -1) if positions % n == 0)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Pointwise(child))
            elif isinstance(child, HyperNetworks):
                setattr(parent, name, GroupedHyperNetworks(child))
    return made


def _grouped(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Of weights (G, in, out) and biases (G, 1, out) one convolution of G groups."""
    kernel = weight.permute(0, 2, 1).flatten(0, 1)[:, :, None, None]
    return folding.convolution(kernel, bias.flatten(), stride=1, groups=len(weight))
