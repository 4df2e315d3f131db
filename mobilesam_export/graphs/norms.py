"""LayerNorm over the channels of (1, C, H, W), for each layout."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from mobilesam_export.model import tiny_vit


class LayerNorm2d(nn.Module):
    """`tiny_vit.LayerNorm2d` as one real LayerNorm on the channel-last map.

    The official arithmetic (mean, pow, sqrt, division) is mistaken for RMSNorm by
    onnxruntime.transformers' optimizer and stays in pieces in coremltools.
    """

    def __init__(self, norm: tiny_vit.LayerNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape
        y = F.layer_norm(x.permute(0, 2, 3, 1), shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class ChannelFirstLayerNorm2d(nn.Module):
    """`tiny_vit.LayerNorm2d` over the channel axis, for the Apple Neural Engine."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: tiny_vit.LayerNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().reshape(1, -1, 1, 1))
        self.register_buffer("bias", norm.bias.detach().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.eps) * self.weight + self.bias


def channel_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise (1, C, H, W) over C; coremltools makes one `layer_norm` of it."""
    centered = x - x.mean(1, keepdim=True)
    return centered * torch.rsqrt((centered * centered).mean(1, keepdim=True) + eps)


def export_norms(layers: nn.Sequential) -> nn.Sequential:
    """The layers with each `tiny_vit.LayerNorm2d` replaced by a `LayerNorm2d`."""
    return nn.Sequential(
        *(LayerNorm2d(x) if isinstance(x, tiny_vit.LayerNorm2d) else x for x in layers)
    )


class CenteredNorm(nn.LayerNorm):
    """A `tiny_vit.LayerNorm2d` on a channel-last map that `folding.centered` layers made."""

    def __init__(self, norm: nn.Module) -> None:
        assert isinstance(norm, tiny_vit.LayerNorm2d)
        super().__init__(norm.weight.shape, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        return centered_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


def centered_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """F.layer_norm of what has a mean of 0 there.

    As a function by itself, so that a runtime without a LayerNorm need not find the mean: a
    `TorchFunctionMode` can put another in its place.
    """
    if has_torch_function_unary(x):
        found: Tensor = handle_torch_function(centered_norm, (x,), x, shape, weight, bias, eps)
        return found
    return F.layer_norm(x, shape, weight, bias, eps)
