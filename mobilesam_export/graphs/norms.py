"""LayerNorm over the channels of (1, C, H, W), for each layout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
