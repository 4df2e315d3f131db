"""int8 weights, and products of int8 whose ranges are found at run time, token by token.

Layers become the calls that ExecuTorch's partitioner knows as such a product. XNNPACK then finds a
range for each row of a matrix. 1x1 convolutions are products of pixels and a matrix, and so is the
neck's 3x3 convolution, one product for each of its nine places: as a convolution, its input would
have one range for the whole map.
"""

import copy
import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobilesam_export.target import Recipe, patterns

LARGEST = 127  # of symmetric int8
LEAST_WIDTH = 64  # input channels of a dense 3x3 convolution that is worth nine products


def quantized(module: nn.Module, recipe: Recipe, graph: str) -> nn.Module:
    """A copy of a module whose products are int8, and whose attention biases are float16."""
    result = copy.deepcopy(module)
    for name, layer in products_in_int8(result, recipe, graph).items():
        result.set_submodule(name.removesuffix(".weight"), _in_int8(layer))
    for part in result.modules():
        if isinstance(bias := dict(part.named_buffers(recurse=False)).get("bias"), Tensor):
            part.bias = bias.half()
            parametrize.register_parametrization(part, "bias", ToFloat32(), unsafe=True)
    return result


def products_in_int8(
    module: nn.Module, recipe: Recipe, graph: str
) -> dict[str, nn.Linear | nn.Conv2d]:
    """Those layers that a recipe computes in int8, by the names of their weights."""
    found = product_weights(module)
    excepted = patterns.stored_types({n: n for n in found}, recipe.exceptions.get(graph, {}))
    return {
        name: layer
        for name, layer in found.items()
        if name not in excepted and layer.weight.numel() > recipe.weight_threshold
    }


def product_weights(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Layers that can be computed in int8, by the names of their weights."""
    return {
        f"{name}.weight": part
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and _is_product(part))
    }


def _is_product(conv: nn.Conv2d) -> bool:
    if conv.groups != 1 or conv.stride != (1, 1):
        return False
    dense = conv.kernel_size == (3, 3) and conv.in_channels >= LEAST_WIDTH
    return conv.kernel_size == (1, 1) or dense


def _in_int8(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return Int8Linear(layer.weight, layer.bias)
    return Int8Pointwise(layer) if layer.kernel_size == (1, 1) else Int8Convolution(layer)


class ToFloat32(nn.Module):
    """What is stored in float16, as float32."""

    def forward(self, stored: Tensor) -> Tensor:
        return stored.to(torch.float32)


class Int8Linear(nn.Module):
    """A linear layer, (..., C) -> (..., C'), one scale for each output."""

    stored: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = weight.detach().abs().amax(1).clamp_min(1e-12) / LARGEST
        rounded = (weight.detach() / scale[:, None]).round().clamp(-LARGEST, LARGEST)
        self.register_buffer("stored", rounded.to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64))
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """For whoever asks a layer for the type in which it computes."""
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        decomposed = torch.ops.quantized_decomposed
        eps = torch.finfo(torch.float32).eps
        scale, zero = decomposed.choose_qparams.tensor(x, -128, 127, eps, torch.int8)
        x = decomposed.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
        x = decomposed.dequantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
        weight = decomposed.dequantize_per_channel.default(
            self.stored, self.scale, self.zero, 0, -LARGEST, LARGEST, torch.int8
        )
        return F.linear(x, weight, self.bias)


class Int8Pointwise(Int8Linear):
    """A 1x1 convolution, (1, C, H, W) -> (1, C', H, W)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.weight[:, :, 0, 0], conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Int8Convolution(nn.Module):
    """A 3x3 convolution as the sum of nine products, (1, C, H, W) -> (1, C', H, W)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.places = [(row, column) for row in range(3) for column in range(3)]
        self.products = nn.ModuleList(
            Int8Linear(conv.weight[:, :, row, column], conv.bias if row + column == 0 else None)
            for row, column in self.places
        )

    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        pairs = zip(self.products, self.places, strict=True)
        parts: list[Tensor] = [
            product(x[:, row : row + height, column : column + width])
            for product, (row, column) in pairs
        ]
        return functools.reduce(torch.add, parts).permute(0, 3, 1, 2)
