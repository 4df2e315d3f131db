"""TinyViT's transformer stages on channel-last maps, for ONNX Runtime and TFLite.

Every tensor has at most four dimensions and no shape is read while tracing. Maps are
(1, H, W, C); windows are (windows, tokens, C).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.window_block import WindowBlock
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm


class TokensBlock(WindowBlock):
    """(1, H, W, C) -> same: all of a block but how its windows attend, which is a subclass's."""

    def __init__(self, block: tiny_vit.TinyViTBlock, size: tuple[int, int], gelu: str) -> None:
        attention = folding.fold_attention(block.attn)
        super().__init__(block, attention, size, gelu, channel_last=True)
        self._add_attention(attention)
        self.proj = folding.linear(attention.proj, attention.proj_bias)
        self.fc1 = folding.linear(*folding.fold_norm(block.mlp.norm, block.mlp.fc1))
        self.fc2 = block.mlp.fc2

    def _add_attention(self, attention: folding.AttentionWeights) -> None:
        raise NotImplementedError

    def _attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.beyond.fill_windows(x)
        x = x + self._attend(F.layer_norm(x, (self.width,), eps=self.attention_eps))
        x = self._convolve(x)
        normalized = F.layer_norm(x, (self.width,), eps=self.mlp_eps)
        return x + self.fc2(F.gelu(self.fc1(normalized), approximate=self.gelu))

    def _convolve(self, x: Tensor) -> Tensor:
        x = self.local_conv(self.beyond.add_edge(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.beyond.crop(x)

    def _partition(self, x: Tensor, count: int, height: int) -> Tensor:
        """`height` rows, in `count` rows of windows -> (count, windows, window, window * C).

        Zeros stand for what is missing on the right and below. Merging the last two axes makes this
        one transpose of a rank-4 tensor.
        """
        pad_right, pad_bottom = self.padded[1] - self.size[1], count * self.window - height
        if pad_right or pad_bottom:
            x = F.pad(x, (0, 0, 0, pad_right, 0, pad_bottom))
        x = x.reshape(count, self.window, self.windows[1], self.window * self.width)
        return x.permute(0, 2, 1, 3)

    def _crop_and_project(self, x: Tensor, count: int, height: int) -> Tensor:
        """Windows of tokens -> (1, height, W, C), the way back."""
        x = x.reshape(count, self.windows[1], self.window, self.window * self.width)
        x = x.permute(0, 2, 1, 3).reshape(1, count * self.window, self.padded[1], self.width)
        return self.proj(x[:, :height, : self.size[1]])


class Block(TokensBlock):
    """(1, H, W, C) -> same, its windows (windows, tokens, C)."""

    bias: Tensor  # baked from the loaded checkpoint

    def _add_attention(self, attention: folding.AttentionWeights) -> None:
        self.register_buffer("bias", attention.bias.float()[None])  # (1, heads, tokens, tokens)
        self.q = folding.linear(attention.q, attention.q_bias)
        self.k = folding.linear(attention.k)
        self.v = folding.linear(attention.v)

    def _attend(self, x: Tensor) -> Tensor:
        (rows, columns), height = self.windows, self.size[0]
        count = rows * columns
        x = self._partition(x, rows, height).reshape(count, self.tokens, self.width)
        y = self._attention(self.q(x), self.k(x), self.v(x), count)
        return self._crop_and_project(y, rows, height)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, count: int) -> Tensor:
        """Each (count, tokens, C), and so is the result."""
        shape = (count, self.tokens, self.heads, self.width // self.heads)
        q = q.reshape(shape).permute(0, 2, 1, 3)  # (windows, heads, tokens, C / heads)
        k = k.reshape(shape).permute(0, 2, 3, 1)  # (windows, heads, C / heads, tokens)
        v = v.reshape(shape).permute(0, 2, 1, 3)
        y = (q @ k + self.bias).softmax(-1) @ v
        return y.permute(0, 2, 1, 3).reshape(count, self.tokens, self.width)


class Stage(nn.Module):
    """(1, C, H, W) -> (1, C, H, W) through channel-last blocks."""

    def __init__(
        self, stage: tiny_vit.Stage, size: tuple[int, int], stride: int, form: GraphForm
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(block, size, form.gelu) for block in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
