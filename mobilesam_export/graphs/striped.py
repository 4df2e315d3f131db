"""TinyViT's convolutional stage, computed in horizontal strips, for runtimes on a CPU.

The hidden maps of this stage are the largest of the model: (S/4)**2 x 256 numbers, 64 MB at 1024.
Computed strip by strip they stay in a cache and never exist as a whole. A strip of a depthwise
3x3 convolution needs one more row on each side; these rows are computed twice.

1x1 convolutions are written as products of tokens and a matrix, which is what they are on a
channel-last map, so that a recipe can quantise them token by token.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.model import Sam, tiny_vit

MAX_JOINED = 4


class Bottleneck(nn.Module):
    """`tiny_vit.MBConv` on rows of a map, (1, rows, W, C) -> (1, rows - 2 + edges, W, C).

    `top` and `bottom` are 1 where the rows are the first or the last of the map, else 0: there the
    convolution meets its zeros, elsewhere the row is only there to be looked at.
    """

    def __init__(self, block: tiny_vit.MBConv, gelu: str) -> None:
        super().__init__()
        self.expand = _linear(folding.fold_batch_norm(block.conv1))
        self.depthwise = folding.fold_batch_norm(block.conv2)
        self.project = _linear(folding.fold_batch_norm(block.conv3))
        self.gelu = gelu

    def forward(self, x: Tensor, rows: int, top: int, bottom: int) -> Tensor:
        y = F.gelu(self.expand(x), approximate=self.gelu).permute(0, 3, 1, 2)
        y = F.pad(y, (1, 1, top, bottom))
        conv = self.depthwise
        y = F.conv2d(y, conv.weight, conv.bias, groups=conv.groups).permute(0, 2, 3, 1)
        y = self.project(F.gelu(y, approximate=self.gelu))
        first = 1 - top
        return F.gelu(y + x[:, first : first + rows - 2 + top + bottom], approximate=self.gelu)


class StripedStage(nn.Module):
    """All blocks of the stage, (1, C, H, W) -> (1, C, H, W), strip by strip."""

    def __init__(self, stage: tiny_vit.Stage, side: int, strips: int, gelu: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Bottleneck(block, gelu) for block in stage.blocks)  # type: ignore[arg-type]
        self.side, self.strips = side, strips

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        height = self.side // self.strips
        parts = [self._strip(x, start, start + height) for start in range(0, self.side, height)]
        return _join(parts).permute(0, 3, 1, 2)

    def _strip(self, x: Tensor, start: int, end: int) -> Tensor:
        """Rows [start, end) of the result."""
        margin = len(self.blocks)
        first, last = max(start - margin, 0), min(end + margin, self.side)
        y = x[:, first:last]
        for left, block in zip(range(margin - 1, -1, -1), self.blocks, strict=True):
            top, bottom = int(first == 0), int(last == self.side)
            y = block(y, last - first, top, bottom)
            first, last = first + 1 - top, last - 1 + bottom
            # At an edge of the map the margin is not used up: cut what is not needed any more.
            low, high = max(start - left, 0), min(end + left, self.side)
            y, first, last = y[:, low - first : high - first], low, high
        return y


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


def rewrite(encoder: Encoder, sam: Sam, strips: int) -> None:
    """Give an encoder its first stage in strips, and 1x1 convolutions as products.

    Args:
        encoder: in channel-last form; changed in place, computes the same.
        sam: what it was made of.
        strips: how many; must divide S/4.
    """
    stage = sam.image_encoder.layers[0]
    assert isinstance(stage, tiny_vit.Stage)
    striped = StripedStage(stage, sam.image_size // tiny_vit.STRIDES[0], strips, encoder.gelu)
    body = [striped, *list(encoder.body)[len(stage.blocks) :]]
    encoder.body = nn.Sequential(
        *(_with_products(part) if type(part) is nn.Sequential else part for part in body)
    )
    encoder.neck = _with_products(encoder.neck)


def _with_products(part: nn.Sequential) -> nn.Sequential:
    """The same layers with every 1x1 convolution replaced."""
    return nn.Sequential(
        *(Pointwise(x) if isinstance(x, nn.Conv2d) and x.kernel_size == (1, 1) else x for x in part)
    )


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the rows, a few at a time: XNNPACK takes five at most.

    The reshape keeps the converter from making one concatenation of all again.
    """
    _, _, width, channels = parts[0].shape
    while len(parts) > 1:
        joined = [
            torch.cat(list(parts[i : i + MAX_JOINED]), dim=1)
            for i in range(0, len(parts), MAX_JOINED)
        ]
        flat = len(parts[0].shape) == 4
        parts = [
            part.reshape(1, -1, width * channels) if flat else part.reshape(1, -1, width, channels)
            for part in joined
        ]
    return parts[0].reshape(1, -1, width, channels)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution on (..., C)."""
    bias = None if conv.bias is None else conv.bias.double()
    return folding.linear(conv.weight[:, :, 0, 0].double(), bias)
