"""TinyViT's transformer stages for GPU delegates of TFLite: four axes at most, the first one 1.

A GPU delegate takes the first axis for a batch, and products of tensors with a batch, or with fewer
axes than four, have been computed wrongly (LiteRT#8619). So windows stand in the second axis, each
head has its own projections, and no head is ever cut out of a wider tensor: maps are (1, H, W, C),
windows (1, windows, tokens, C), and attention of one head (1, windows, tokens, C / heads).
"""

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.channel_last import TokensBlock
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm


class Head(nn.Module):
    """One head of window attention, (1, windows, tokens, C) -> (1, windows, tokens, C / heads)."""

    bias: Tensor

    def __init__(self, attention: folding.AttentionWeights, head: int, heads: int) -> None:
        super().__init__()
        width = attention.q.shape[0] // heads
        rows = slice(head * width, (head + 1) * width)
        self.q = folding.linear(attention.q[rows], attention.q_bias[rows])
        self.k = folding.linear(attention.k[rows])
        self.v = folding.linear(attention.v[rows])
        self.register_buffer("bias", attention.bias[head].float()[None, None])

    def forward(self, x: Tensor) -> Tensor:
        logits = self.q(x) @ self.k(x).permute(0, 1, 3, 2) + self.bias
        return logits.softmax(-1) @ self.v(x)


class Block(TokensBlock):
    """(1, H, W, C) -> same, its windows (1, windows, tokens, C)."""

    def _add_attention(self, attention: folding.AttentionWeights) -> None:
        self.attention = nn.ModuleList(
            Head(attention, head, self.heads) for head in range(self.heads)
        )

    def _attend(self, x: Tensor) -> Tensor:
        (rows, columns), height = self.windows, self.size[0]
        x = self._partition(x, rows, height)
        x = x.reshape(1, rows * columns, self.tokens, self.width)
        y = torch.cat([head(x) for head in self.attention], dim=-1)
        return self._crop_and_project(y, rows, height)


class Stage(nn.Module):
    """(1, C, H, W) -> (1, C, H, W)."""

    def __init__(
        self, stage: tiny_vit.Stage, size: tuple[int, int], stride: int, form: GraphForm
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(block, size, form.gelu) for block in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
