"""TinyViT's transformer stages on channel-first maps, for the Apple Neural Engine.

Linear layers are 1x1 convolutions and LayerNorm runs over the channel axis, as in Apple's
ml-ane-transformers. Maps are (1, C, H, W). Windows are (..., windows, tokens) with the channels
before them, so that cutting a map into windows exchanges two axes and heads are a plain reshape.
d = C / heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.norms import channel_norm
from mobilesam_export.graphs.window_block import WindowBlock, chunk_count, sum_of_chunks
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm

# Attention whose first axis has 10 or more entries is wrong on the GPU (apple/coremltools#2650).
MOST_HEADS = 9
# The product that ML Programs have an operation for: over the last axis and axis 1.
HEADWISE = "nchw,nwhu->nchu"


class Block(WindowBlock):
    """(1, C, H, W) -> same."""

    def __init__(
        self, block: tiny_vit.TinyViTBlock, size: tuple[int, int], stride: int, form: GraphForm
    ) -> None:
        attention = folding.fold_attention(block.attn)
        super().__init__(block, attention, size, form.gelu, channel_last=False)
        self.attention = form.attention
        self.groups = self.heads if form.attention == "per-head" else -(-self.heads // MOST_HEADS)
        for index, bias in enumerate(attention.bias.float().chunk(self.groups)):
            if form.attention == "per-head":  # (1, keys, 1, queries)
                baked = bias.transpose(1, 2)[:, :, None]
            else:  # (heads of the group, 1, queries, keys)
                baked = bias[:, None]
            self.register_buffer(f"bias_{index}", baked.contiguous())
        scale = (self.width // self.heads) ** 0.5 if form.attention == "sdpa" else 1
        zero = torch.zeros_like(attention.q_bias)
        self.qkv = folding.pointwise(
            torch.cat([attention.q * scale, attention.k, attention.v]),
            torch.cat([attention.q_bias * scale, zero, zero]),
        )
        self.proj = folding.pointwise(attention.proj, attention.proj_bias)
        fc1 = folding.pointwise(*folding.fold_norm(block.mlp.norm, block.mlp.fc1))
        fc2 = folding.pointwise(block.mlp.fc2.weight, block.mlp.fc2.bias)
        chunks = folding.split_hidden(fc1, fc2, chunk_count(form, self.width, stride))
        self.fc1 = nn.ModuleList(chunk.expand for chunk in chunks)
        self.fc2 = nn.ModuleList(chunk.project for chunk in chunks)

    def forward(self, x: Tensor) -> Tensor:
        # Zero-padding after qkv is exact for k and v (see fold_attention); padded queries are
        # cropped away.
        x = self.beyond.fill_windows(x)
        qkv = self._partition(self.qkv(channel_norm(x, self.attention_eps)))
        y = self._attend_per_head(qkv) if self.attention == "per-head" else self._attend(qkv)
        x = self.beyond.add_edge(x + self.proj(self._reverse(y)))
        x = self.beyond.crop(self.local_conv(x))
        normalized = channel_norm(x, self.mlp_eps)
        return x + sum_of_chunks(
            fc2(F.gelu(fc1(normalized), approximate=self.gelu))
            for fc1, fc2 in zip(self.fc1, self.fc2, strict=True)
        )

    def _biases(self) -> list[Tensor]:
        return [getattr(self, f"bias_{index}") for index in range(self.groups)]

    def _attend(self, qkv: Tensor) -> Tensor:  # (3 heads, d, windows, tokens) -> (heads, d, ...)
        cut = torch.split(qkv.permute(0, 2, 3, 1), self.heads // self.groups)
        queries, keys, values = (cut[i * self.groups : (i + 1) * self.groups] for i in range(3))
        results = []
        for q, k, v, bias in zip(queries, keys, values, self._biases(), strict=True):
            # (heads of the group, windows, tokens, d)
            if self.attention == "sdpa":
                results.append(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
            else:
                results.append((q @ k.transpose(2, 3) + bias).softmax(-1) @ v)
        y = results[0] if self.groups == 1 else torch.cat(results)
        return y.permute(0, 3, 1, 2)

    def _attend_per_head(self, qkv: Tensor) -> Tensor:  # (1, 3C, windows, tokens) -> (1, C, ...)
        """As in Apple's ml-ane-transformers, where only the keys are transposed."""
        depth = self.width // self.heads
        q, k, v = torch.split(qkv, self.width, dim=1)
        queries, values = torch.split(q, depth, dim=1), torch.split(v, depth, dim=1)
        keys = torch.split(k.permute(0, 3, 2, 1), depth, dim=3)  # (1, tokens, windows, d)
        results = []
        for q, k, v, bias in zip(queries, keys, values, self._biases(), strict=True):
            weights = torch.einsum(HEADWISE, k, q) + bias  # (1, keys, windows, queries)
            results.append(torch.einsum(HEADWISE, v, weights.softmax(1)))
        return torch.cat(results, dim=1)

    def _partition(self, x: Tensor) -> Tensor:  # (1, 3C, H, W) -> (..., windows, tokens)
        below, right = self.padded[0] - self.size[0], self.padded[1] - self.size[1]
        x = F.pad(x, (0, right, 0, below)) if right or below else x
        rows, columns = self.windows
        x = x.reshape(3 * self.width * rows, self.window, columns, self.window)
        x = x.permute(0, 2, 1, 3)
        groups = 1 if self.attention == "per-head" else 3 * self.heads
        return x.reshape(groups, 3 * self.width // groups, rows * columns, self.tokens)

    def _reverse(self, x: Tensor) -> Tensor:  # (heads, d, windows, tokens) -> (1, C, H, W)
        rows, columns = self.windows
        x = x.reshape(self.width * rows, columns, self.window, self.window)
        x = x.permute(0, 2, 1, 3).reshape(1, self.width, *self.padded)
        return x[:, :, : self.size[0], : self.size[1]]


class Stage(nn.Module):
    """(1, C, H, W) -> same."""

    def __init__(
        self, stage: tiny_vit.Stage, size: tuple[int, int], stride: int, form: GraphForm
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(b, size, stride, form) for b in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)
