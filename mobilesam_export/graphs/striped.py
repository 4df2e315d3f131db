"""The channel-last encoder computed in horizontal strips, for runtimes on a CPU.

At 1024 the hidden maps of the first stage have (S/4)**2 x 256 numbers, 64 MB, more than any cache.
Computed strip by strip they stay in one, and never exist as a whole. Two parts of the encoder are
written so:

* everything down to the map of S/8 rows: stem, first stage, downsampling. What rows of a 3x3
  convolution need of its input overlaps with what their neighbours need: these rows are computed
  twice.
* attention and MLPs of the transformer stages, by rows of windows and of tokens, where nothing
  overlaps. Of a product's weights XNNPACK packs a copy for each part.

1x1 convolutions are products of tokens and a matrix, which is what they are on a channel-last map,
so that a recipe can quantise them token by token.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import channel_last, folding
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.model import Sam, tiny_vit
from mobilesam_export.target import GraphForm

MAX_JOINED = 4
# Most numbers of a part of attention weights, 2 MB, and of an expanded map, 8 MB. What parts cost:
# memory for more packed weights (float32: some 45 MB of the process) and time to convert (twice as
# much). Attention in parts of 2 MB is 2 % faster than in parts of 8 MB (float32, 2 threads, AVX2).
MOST_WEIGHTS = 1 << 19
MOST_EXPANDED = 1 << 21


class Rows(NamedTuple):
    """Rows [start, end) of a map, with so many rows of zeros above and below."""

    start: int
    end: int
    top: int = 0
    bottom: int = 0


def split_rows(count: int, parts: int) -> list[Rows]:
    """Rows [0, count) in parts of nearly the same height."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [Rows(a, b) for a, b in pairwise(edges)]


def needed(rows: Rows, stride: int, height: int) -> Rows:
    """What a 3x3 convolution needs of a map with `height` rows, to make `rows` of its result."""
    start, end = rows.start * stride - 1, (rows.end - 1) * stride + 2
    return Rows(max(start, 0), min(end, height), max(-start, 0), max(end - height, 0))


class Convolution(nn.Module):
    """A 3x3 convolution on rows, (1, rows, W, C) -> (1, rows / stride, W / stride, C')."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.stride = conv, conv.stride[0]

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        conv, right = self.conv, 2 - self.stride  # an even width with stride 2 needs no right edge
        y = F.pad(x.permute(0, 3, 1, 2), (1, right, rows.top, rows.bottom))
        return F.conv2d(y, conv.weight, conv.bias, conv.stride, groups=conv.groups).permute(
            0, 2, 3, 1
        )


class Activated(Convolution):
    """The same with a GELU behind it."""

    def __init__(self, conv: nn.Conv2d, gelu: str) -> None:
        super().__init__(conv)
        self.gelu = gelu

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return F.gelu(super().forward(x, rows), approximate=self.gelu)


class Expanded(nn.Module):
    """1x1, depthwise 3x3 and 1x1: `tiny_vit.MBConv` and `tiny_vit.PatchMerging`, on rows."""

    def __init__(self, block: tiny_vit.MBConv | tiny_vit.PatchMerging, gelu: str) -> None:
        super().__init__()
        self.expand = _linear(folding.fold_batch_norm(block.conv1))
        self.depthwise = Activated(folding.fold_batch_norm(block.conv2), gelu)
        self.project = _linear(folding.fold_batch_norm(block.conv3))
        self.stride, self.gelu = self.depthwise.stride, gelu
        self.residual = isinstance(block, tiny_vit.MBConv)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        y = F.gelu(self.expand(x), approximate=self.gelu)
        y = self.project(self.depthwise(y, rows))
        if not self.residual:
            return y
        first = 1 - rows.top
        last = first + rows.end - rows.start + rows.top + rows.bottom - 2
        return F.gelu(y + x[:, first:last], approximate=self.gelu)


class StripedHead(nn.Module):
    """Stem, first stage and downsampling, (1, 3, S, S) -> (1, C, S/8, S/8), strip by strip."""

    def __init__(
        self, stem: nn.Sequential, stage: tiny_vit.Stage, image_size: int, form: GraphForm
    ) -> None:
        super().__init__()
        first, _, second = stem
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        assert stage.downsample is not None
        layers = [Activated(first, form.gelu), Convolution(second)]
        expanded = [*stage.blocks, stage.downsample]
        self.layers = nn.ModuleList([*layers, *(Expanded(x, form.gelu) for x in expanded)])
        side = image_size // tiny_vit.STRIDES[1]
        self.strips = [self._spans(rows, side) for rows in split_rows(side, form.strips)]

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return _join([self._strip(x, spans) for spans in self.strips]).permute(0, 3, 1, 2)

    def _strip(self, x: Tensor, spans: Sequence[Rows]) -> Tensor:
        y = x[:, spans[0].start : spans[0].end]
        for layer, span in zip(self.layers, spans, strict=True):
            y = layer(y, span)
        return y

    def _spans(self, rows: Rows, height: int) -> list[Rows]:
        """What each layer takes, for these rows of a result with `height` rows."""
        spans: list[Rows] = []
        for layer in reversed(self.layers):
            stride = layer.stride
            assert isinstance(stride, int)
            height *= stride
            rows = needed(rows, stride, height)
            spans.insert(0, rows)
        return spans


class StripedBlock(channel_last.Block):
    """A transformer block, (1, H, W, C) -> same, by rows of windows and of tokens."""

    def __init__(self, block: tiny_vit.TinyViTBlock, side: int, gelu: str) -> None:
        super().__init__(block, side, gelu)
        weights = self.windows**2 * self.heads * self.tokens**2
        expanded = side**2 * self.fc1.out_features
        self.window_rows = split_rows(self.windows, min(-(-weights // MOST_WEIGHTS), self.windows))
        self.token_rows = split_rows(side, -(-expanded // MOST_EXPANDED))

    def forward(self, x: Tensor) -> Tensor:
        x = _join([self._attended(x, rows) for rows in self.window_rows])
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return _join([self._fed_forward(x[:, rows.start : rows.end]) for rows in self.token_rows])

    def _fed_forward(self, x: Tensor) -> Tensor:
        normalized = F.layer_norm(x, (self.width,), eps=self.mlp_eps)
        return x + self.fc2(F.gelu(self.fc1(normalized), approximate=self.gelu))

    def _attended(self, x: Tensor, rows: Rows) -> Tensor:
        """Rows of the map that lie in these rows of windows, after attention.

        They are padded after their projection, where less is to compute: what keys and values of
        padded tokens are, zero, they stay, and padded queries are cut off again.
        """
        first, last = rows.start * self.window, min(rows.end * self.window, self.side)
        count, height = rows.end - rows.start, last - first
        x = x[:, first:last]
        y = F.layer_norm(x, (self.width,), eps=self.attention_eps)
        shape = (count * self.windows, self.tokens, self.width)
        q, k, v = (
            self._partition(layer(y), count, height).reshape(shape)
            for layer in (self.q, self.k, self.v)
        )
        y = self._attention(q, k, v, count * self.windows)
        return x + self._crop_and_project(y, count, height)


class StripedStage(nn.Module):
    """(1, C, H, W) -> (1, C, H, W) through blocks in strips."""

    def __init__(self, stage: tiny_vit.Stage, side: int, form: GraphForm) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(StripedBlock(block, side, form.gelu) for block in stage.blocks)  # type: ignore[arg-type]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pointwise(nn.Module):
    """A 1x1 convolution as a product, (1, C, H, W) -> (1, C', H, W)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.linear = _linear(conv)

    @property
    def weight(self) -> Tensor:
        """(C', C)."""
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def rewrite(encoder: Encoder, sam: Sam, form: GraphForm) -> None:
    """Give an encoder in channel-last form its strips, and 1x1 convolutions as products.

    It is changed in place and computes the same.
    """
    first, *stages = sam.image_encoder.layers
    assert isinstance(first, tiny_vit.Stage)
    encoder.stem = nn.Sequential(StripedHead(encoder.stem, first, sam.image_size, form))
    rest = list(encoder.body)[len(first.blocks) + 1 :]  # without the first downsampling, too
    for index, (stage, stride) in enumerate(zip(stages, tiny_vit.STRIDES[1:], strict=True)):
        side = sam.image_size // stride
        rest[2 * index] = StripedStage(stage, side, form)  # type: ignore[arg-type]
    encoder.body = nn.Sequential(
        *(_with_products(part) if type(part) is nn.Sequential else part for part in rest)
    )
    encoder.neck = _with_products(encoder.neck)


def _with_products(part: nn.Sequential) -> nn.Sequential:
    """The same layers with every 1x1 convolution replaced."""
    return nn.Sequential(
        *(Pointwise(x) if isinstance(x, nn.Conv2d) and x.kernel_size == (1, 1) else x for x in part)
    )


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the rows, a few at a time: XNNPACK takes five at most.

    Halves of a longer list meet as (1, rows, W * C), which keeps the converter from making one
    concatenation of all again.
    """
    if len(parts) <= MAX_JOINED:
        return torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]
    _, _, width, channels = parts[0].shape
    half = len(parts) // 2
    halves = [_join(part).reshape(1, -1, width * channels) for part in (parts[:half], parts[half:])]
    return torch.cat(halves, dim=1).reshape(1, -1, width, channels)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution on (..., C)."""
    bias = None if conv.bias is None else conv.bias.double()
    return folding.linear(conv.weight[:, :, 0, 0].double(), bias)
