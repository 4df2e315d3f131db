"""TinyViT's transformer stages on channel-first maps, for the Apple Neural Engine.

Linear layers are 1x1 convolutions and LayerNorm runs over the channel axis, as in Apple's
ml-ane-transformers, so that nothing moves between channel-first convolutions and attention.
Maps are (1, C, H, W); q, k and v are (windows, heads, C / heads, tokens), which a reshape gives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.window_block import WindowBlock
from mobilesam_export.model import tiny_vit

LAYER_NORM_EPS = 1e-5  # nn.LayerNorm's default, which TinyViT uses


def channel_norm(x: Tensor, eps: float = LAYER_NORM_EPS) -> Tensor:
    """Normalise (1, C, H, W) over C; coremltools makes one `layer_norm` of it."""
    centered = x - x.mean(1, keepdim=True)
    return centered * torch.rsqrt((centered * centered).mean(1, keepdim=True) + eps)


class Block(WindowBlock):
    """(1, C, H, W) -> same."""

    def __init__(self, block: tiny_vit.TinyViTBlock, side: int, gelu: str) -> None:
        attention = folding.fold_attention(block.attn)
        super().__init__(block, attention, side, gelu)
        zero = torch.zeros_like(attention.q_bias)
        self.qkv = folding.pointwise(
            torch.cat([attention.q, attention.k, attention.v]),
            torch.cat([attention.q_bias, zero, zero]),
        )
        self.proj = folding.pointwise(attention.proj, attention.proj_bias)
        self.fc1 = folding.pointwise(*folding.fold_norm(block.mlp.norm, block.mlp.fc1))
        self.fc2 = folding.pointwise(block.mlp.fc2.weight, block.mlp.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self._attend(channel_norm(x)))
        return x + self.fc2(F.gelu(self.fc1(channel_norm(x)), approximate=self.gelu))

    def _attend(self, x: Tensor) -> Tensor:
        # Zero-padding after qkv is exact for k and v (see fold_attention); padded queries are
        # cropped away below.
        q, k, v = torch.split(self._partition(self.qkv(x)), self.width, dim=1)
        q, k, v = self._split_heads(q), self._split_heads(k), self._split_heads(v)
        weights = (q.transpose(2, 3) @ k + self.bias).softmax(-1)  # (windows, heads, q, k)
        y = v @ weights.transpose(2, 3)  # (windows, heads, C / heads, tokens)
        return self._crop_and_project(y.reshape(self.windows**2, self.width, self.tokens))

    def _split_heads(self, x: Tensor) -> Tensor:
        shape = (self.windows**2, self.heads, self.width // self.heads, self.tokens)
        return x.reshape(shape)

    def _partition(self, x: Tensor) -> Tensor:  # (1, 3C, H, W) -> (windows, 3C, tokens)
        extra = self.padded - self.side
        x = F.pad(x, (0, extra, 0, extra)) if extra else x
        width = 3 * self.width
        x = x.reshape(width, self.windows, self.window, self.padded).permute(1, 0, 2, 3)
        x = x.reshape(self.windows, width * self.window, self.windows, self.window)
        return x.permute(0, 2, 1, 3).reshape(self.windows**2, width, self.tokens)

    def _crop_and_project(self, x: Tensor) -> Tensor:  # (windows, C, tokens) -> (1, C, H, W)
        rows = (self.windows, self.windows, self.width * self.window, self.window)
        x = x.reshape(rows).permute(0, 2, 1, 3)
        x = x.reshape(self.windows, self.width, self.window, self.padded).permute(1, 0, 2, 3)
        x = x.reshape(1, self.width, self.padded, self.padded)
        return self.proj(x[:, :, : self.side, : self.side])


class Stage(nn.Module):
    """(1, C, H, W) -> same."""

    def __init__(self, stage: tiny_vit.Stage, side: int, gelu: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(block, side, gelu) for block in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class LayerNorm2d(nn.Module):
    """LayerNorm with scale and bias over the channels of (1, C, H, W)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: tiny_vit.LayerNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().reshape(1, -1, 1, 1))
        self.register_buffer("bias", norm.bias.detach().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.eps) * self.weight + self.bias
