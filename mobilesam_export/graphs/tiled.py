"""The channel-last encoder computed in tiles of rows, for runtimes on a CPU.

At 1024 the hidden maps of the first stage have (S/4)**2 x 256 elements, 64 MB, more than any cache.
Computed tile by tile they stay in one, and never exist as a whole. Two parts of the encoder are
written so:

* the head: stem, first stage and the patch merging behind it, down to a map of S/8 rows. Rows that
  the 3x3 convolutions of two neighbouring tiles need are computed twice.
* attention and MLPs of the transformer stages, by rows of windows and of tokens, where nothing
  overlaps. Of a product's weights XNNPACK packs a copy for each tile.

1x1 convolutions are products of tokens and a matrix, which is what they are on a channel-last map,
so that a recipe can quantise them token by token.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import channel_last, convolutions, folding
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm

MAX_JOINED = 4
# Most elements of a tile of attention weights, 2 MB, and of an expanded map, 8 MB. What tiles cost:
# memory for more packed weights (float32: some 45 MB of the process) and time to convert (twice as
# much). Attention in tiles of 2 MB is 2 % faster than in tiles of 8 MB (float32, 2 threads, AVX2).
MOST_WEIGHTS = 1 << 19
MOST_EXPANDED = 1 << 21


class Rows(NamedTuple):
    """Rows [start, end) of a map, with so many rows of zeros above and below."""

    start: int
    end: int
    top: int = 0
    bottom: int = 0


def split_rows(count: int, tiles: int) -> list[Rows]:
    """Rows [0, count) in tiles of nearly the same height."""
    edges = [count * i // tiles for i in range(tiles + 1)]
    return [Rows(a, b) for a, b in pairwise(edges)]


def input_rows(rows: Rows, stride: int, height: int) -> Rows:
    """Input rows of a 3x3 convolution for `rows` of its result; its input has `height` rows."""
    start, end = rows.start * stride - 1, (rows.end - 1) * stride + 2
    return Rows(max(start, 0), min(end, height), max(-start, 0), max(end - height, 0))


class RowConv2d(nn.Conv2d):
    """A 3x3 convolution on rows, (1, rows, W, C) -> (1, rows / stride, W / stride, C')."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, conv.stride, groups=conv.groups)  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor, rows: Rows) -> Tensor:  # type: ignore[override]
        right_padding = 2 - self.stride[0]  # an even width with stride 2 needs no right edge
        y = F.pad(x.permute(0, 3, 1, 2), (1, right_padding, rows.top, rows.bottom))
        y = F.conv2d(y, self.weight, self.bias, self.stride, groups=self.groups)
        return y.permute(0, 2, 3, 1)


class GeluRowConv2d(RowConv2d):
    """A `RowConv2d` followed by a GELU."""

    def __init__(self, conv: nn.Conv2d, gelu: str) -> None:
        super().__init__(conv)
        self.gelu = gelu

    def forward(self, x: Tensor, rows: Rows) -> Tensor:  # type: ignore[override]
        return F.gelu(super().forward(x, rows), approximate=self.gelu)


class RowBottleneck(nn.Module):
    """1x1, depthwise 3x3 and 1x1: `tiny_vit.MBConv` and `tiny_vit.PatchMerging`, on rows."""

    def __init__(self, block: tiny_vit.MBConv | tiny_vit.PatchMerging, gelu: str) -> None:
        super().__init__()
        self.expand = _linear(folding.fold_batch_norm(block.conv1))
        self.depthwise = GeluRowConv2d(folding.fold_batch_norm(block.conv2), gelu)
        self.project = _linear(folding.fold_batch_norm(block.conv3))
        self.stride, self.gelu = self.depthwise.stride, gelu
        self.residual = isinstance(block, tiny_vit.MBConv)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        y = F.gelu(self.expand(x), approximate=self.gelu)
        y = self.project(self.depthwise(y, rows))
        if not self.residual:
            return y
        top_row = 1 - rows.top
        last = top_row + rows.end - rows.start + rows.top + rows.bottom - 2
        return F.gelu(y + x[:, top_row:last], approximate=self.gelu)


def stem(embed: tiny_vit.PatchEmbed, form: GraphForm) -> nn.Module:
    """Both convolutions of the stem, on rows."""
    first, second = convolutions.stem_convolutions(embed)
    return nn.Sequential(
        OrderedDict(conv1=GeluRowConv2d(first, form.gelu), conv2=RowConv2d(second))
    )


class ConvStage(nn.Module):
    """The blocks of the first stage, on rows; `Head` runs them."""

    def __init__(self, stage: tiny_vit.Stage, form: GraphForm) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(RowBottleneck(b, form.gelu) for b in stage.blocks))  # type: ignore[arg-type]


def first_merging(merging: tiny_vit.PatchMerging, form: GraphForm) -> nn.Module:
    """The patch merging behind the first stage, on rows."""
    return RowBottleneck(merging, form.gelu)


class Head:
    """Runs stem, first stage and first merging tile by tile.

    Args:
        height: of what is computed, in pixels.
        form: with `row_tiles`, the number of tiles.
    """

    def __init__(self, height: int, form: GraphForm) -> None:
        self.height = height // tiny_vit.STRIDES[1]
        self.results = split_rows(self.height, form.row_tiles)

    def __call__(self, x: Tensor, stem: nn.Module, stage: nn.Module, merging: nn.Module) -> Tensor:
        """(1, 3, H, W) -> (1, C, H/8, W/8)."""
        assert isinstance(stem, nn.Sequential)
        assert isinstance(stage, ConvStage)
        layers = [*stem, *stage.blocks, merging]
        strides = (2, 2, *(1 for _ in stage.blocks), 2)
        tiles = [_input_rows(rows, self.height, strides) for rows in self.results]
        x = x.permute(0, 2, 3, 1)
        return concat_rows([_tile(x, layers, inputs) for inputs in tiles]).permute(0, 3, 1, 2)


def _tile(x: Tensor, layers: Sequence[nn.Module], inputs: Sequence[Rows]) -> Tensor:
    """One tile of the last layer's output; each layer takes these rows of its input."""
    y = x[:, inputs[0].start : inputs[0].end]
    for layer, rows in zip(layers, inputs, strict=True):
        y = layer(y, rows)
    return y


def _input_rows(rows: Rows, height: int, strides: Sequence[int]) -> list[Rows]:
    """Input rows of each layer of the head, for these rows of a result with `height` rows."""
    inputs: list[Rows] = []
    for stride in reversed(strides):
        height *= stride
        rows = input_rows(rows, stride, height)
        inputs.insert(0, rows)
    return inputs


class Block(channel_last.Block):
    """A transformer block, (1, H, W, C) -> same, by rows of windows and of tokens."""

    def __init__(self, block: tiny_vit.TinyViTBlock, size: tuple[int, int], gelu: str) -> None:
        super().__init__(block, size, gelu)
        (height, width), (rows, columns) = size, self.windows
        weights = rows * columns * self.heads * self.tokens**2
        hidden_elements = height * width * self.fc1.out_features
        self.window_rows = split_rows(rows, min(-(-weights // MOST_WEIGHTS), rows))
        self.token_rows = split_rows(height, -(-hidden_elements // MOST_EXPANDED))

    def forward(self, x: Tensor) -> Tensor:
        x = self.beyond.fill_windows(x)
        x = self._convolve(concat_rows([self._attended(x, rows) for rows in self.window_rows]))
        tiles = [x[:, rows.start : rows.end] for rows in self.token_rows]
        return concat_rows([self._fed_forward(tile) for tile in tiles])

    def _fed_forward(self, x: Tensor) -> Tensor:
        normalized = F.layer_norm(x, (self.width,), eps=self.mlp_eps)
        return x + self.fc2(F.gelu(self.fc1(normalized), approximate=self.gelu))

    def _attended(self, x: Tensor, rows: Rows) -> Tensor:
        """Rows of the map that lie in these rows of windows, after attention.

        They are padded after their projection, where less is to compute: keys and values of padded
        tokens are zero and stay zero, and padded queries are cut off again.
        """
        first, last = rows.start * self.window, min(rows.end * self.window, self.size[0])
        count, height = rows.end - rows.start, last - first
        x = x[:, first:last]
        y = F.layer_norm(x, (self.width,), eps=self.attention_eps)
        windows = count * self.windows[1]
        shape = (windows, self.tokens, self.width)
        q, k, v = (
            self._partition(layer(y), count, height).reshape(shape)
            for layer in (self.q, self.k, self.v)
        )
        y = self._attention(q, k, v, windows)
        return x + self._crop_and_project(y, count, height)


class Stage(nn.Module):
    """(1, C, H, W) -> (1, C, H, W) through blocks in tiles."""

    def __init__(
        self, stage: tiny_vit.Stage, size: tuple[int, int], stride: int, form: GraphForm
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(block, size, form.gelu) for block in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pointwise(nn.Linear):
    """A 1x1 convolution as a product, (1, C, H, W) -> (1, C', H, W)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
        product = _linear(conv)
        self.weight, self.bias = product.weight, product.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def concat_rows(tiles: Sequence[Tensor]) -> Tensor:
    """Concatenate (1, rows, W, C), a few at a time: XNNPACK takes five at most.

    Halves of a longer list meet as (1, rows, W * C), which keeps the converter from making one
    concatenation of all again.
    """
    if len(tiles) <= MAX_JOINED:
        return torch.cat(list(tiles), dim=1) if len(tiles) > 1 else tiles[0]
    _, _, width, channels = tiles[0].shape
    half = len(tiles) // 2
    halves = [
        concat_rows(part).reshape(1, -1, width * channels) for part in (tiles[:half], tiles[half:])
    ]
    return torch.cat(halves, dim=1).reshape(1, -1, width, channels)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution on (..., C)."""
    bias = None if conv.bias is None else conv.bias.double()
    return folding.linear(conv.weight[:, :, 0, 0].double(), bias)
