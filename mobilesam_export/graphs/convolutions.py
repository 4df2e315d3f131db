"""The convolutional layers of TinyViT on (1, C, H, W): stem, first stage, patch merging.

Batch norms are folded into the convolutions before them. The names of the layers (`conv1`,
`expand`, `depthwise`, `project`) are the same in every layout: recipes refer to them.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.window_block import chunk_count, sum_of_chunks
from mobilesam_export.model import PIXEL_STD, tiny_vit
from mobilesam_export.target import GraphForm


def stem_convolutions(embed: tiny_vit.PatchEmbed) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Both convolutions of the stem; the first takes pixels not divided by PIXEL_STD."""
    first, _, second = embed.seq
    assert isinstance(first, tiny_vit.Conv2dBN)
    assert isinstance(second, tiny_vit.Conv2dBN)
    scaled = folding.fold_pixel_std(folding.fold_batch_norm(first), PIXEL_STD)
    return scaled, folding.fold_batch_norm(second)


class Stem(nn.Module):
    """`tiny_vit.PatchEmbed`, (1, 3, S, S) -> (1, C, S/4, S/4)."""

    def __init__(self, embed: tiny_vit.PatchEmbed, form: GraphForm) -> None:
        super().__init__()
        self.conv1, self.conv2 = stem_convolutions(embed)
        self.gelu = form.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x), approximate=self.gelu))


class Bottleneck(nn.Module):
    """`tiny_vit.MBConv`, its hidden channels in chunks: (1, C, H, W) -> same."""

    def __init__(self, block: tiny_vit.MBConv, gelu: str, chunks: int) -> None:
        super().__init__()
        expand, depthwise, project = (
            folding.fold_batch_norm(c) for c in (block.conv1, block.conv2, block.conv3)
        )
        pairs = folding.split_hidden(expand, project, chunks)
        self.expand = nn.ModuleList(pair.expand for pair in pairs)
        self.depthwise = nn.ModuleList(folding.split_depthwise(depthwise, chunks))
        self.project = nn.ModuleList(pair.project for pair in pairs)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        chunks = zip(self.expand, self.depthwise, self.project, strict=True)
        y = sum_of_chunks(self._chunk(x, *chunk) for chunk in chunks)
        return F.gelu(x + y, approximate=self.gelu)

    def _chunk(
        self, x: Tensor, expand: nn.Module, depthwise: nn.Module, project: nn.Module
    ) -> Tensor:
        hidden = F.gelu(expand(x), approximate=self.gelu)
        return project(F.gelu(depthwise(hidden), approximate=self.gelu))


class ConvStage(nn.Module):
    """The first stage, (1, C, H/4, W/4) -> same."""

    def __init__(self, stage: tiny_vit.Stage, form: GraphForm) -> None:
        super().__init__()
        chunks = chunk_count(form, stage.width, tiny_vit.STRIDES[0])
        self.blocks = nn.Sequential(*(Bottleneck(b, form.gelu, chunks) for b in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class PatchMerging(nn.Module):
    """`tiny_vit.PatchMerging`, (1, C, H, W) -> (1, C', H/stride, W/stride).

    Args:
        merging: of the model.
        gelu: as torch names it, "none" or "tanh".
        pointwise: how a 1x1 convolution is computed.
    """

    def __init__(
        self,
        merging: tiny_vit.PatchMerging,
        gelu: str,
        pointwise: Callable[[nn.Conv2d], nn.Module],
    ) -> None:
        super().__init__()
        self.expand = pointwise(folding.fold_batch_norm(merging.conv1))
        self.depthwise = folding.fold_batch_norm(merging.conv2)
        self.project = pointwise(folding.fold_batch_norm(merging.conv3))
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.expand(x), approximate=self.gelu)
        return self.project(F.gelu(self.depthwise(y), approximate=self.gelu))


def unchanged(conv: nn.Conv2d) -> nn.Module:
    """The 1x1 convolution itself, for layouts that keep it."""
    return conv


def first_merging(merging: tiny_vit.PatchMerging, form: GraphForm) -> nn.Module:
    """The patch merging behind the first stage."""
    return PatchMerging(merging, form.gelu, unchanged)


def head(
    height: int, form: GraphForm
) -> Callable[[Tensor, nn.Module, nn.Module, nn.Module], Tensor]:
    """The function that runs stem, first stage and first merging: here on whole maps."""
    return run_whole


def run_whole(x: Tensor, stem: nn.Module, stage: nn.Module, merging: nn.Module) -> Tensor:
    """(1, 3, H, W) -> (1, C, H/8, W/8)."""
    result: Tensor = merging(stage(stem(x)))
    return result
