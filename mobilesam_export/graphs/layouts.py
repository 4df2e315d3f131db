"""The layouts of the encoder: how each of its parts is written down for a kind of runtime."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mobilesam_export.graphs import (
    batch_one,
    channel_first,
    channel_last,
    convolutions,
    norms,
    tiled,
)
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm

# Runs stem, first stage and first merging, on the whole map or tile by tile:
# (1, 3, H, W) -> (1, C, H/8, W/8).
Head = Callable[[Tensor, nn.Module, nn.Module, nn.Module], Tensor]


@dataclass(frozen=True)
class Layout:
    """The implementations of the encoder's parts; all maps between them are (1, C, H, W).

    Attributes:
        stage: a stage of transformer blocks, by its part of the model, (height, width) of the map
            in tokens, stride and form.
        norm: a LayerNorm of the neck.
        pointwise: a 1x1 convolution between transformer stages and in the neck.
        head: how the three parts before the transformer stages are run, by H and form.
        stem: the first of them,
        first_stage: the second,
        first_merging: and the third.
    """

    stage: Callable[[tiny_vit.Stage, tuple[int, int], int, GraphForm], nn.Module]
    norm: Callable[[tiny_vit.LayerNorm2d], nn.Module] = norms.LayerNorm2d
    pointwise: Callable[[nn.Conv2d], nn.Module] = convolutions.unchanged
    head: Callable[[int, GraphForm], Head] = convolutions.head
    stem: Callable[[tiny_vit.PatchEmbed, GraphForm], nn.Module] = convolutions.Stem
    first_stage: Callable[[tiny_vit.Stage, GraphForm], nn.Module] = convolutions.ConvStage
    first_merging: Callable[[tiny_vit.PatchMerging, GraphForm], nn.Module] = (
        convolutions.first_merging
    )


LAYOUTS = {
    "channel-last": Layout(stage=channel_last.Stage),
    "channel-first": Layout(stage=channel_first.Stage, norm=norms.ChannelFirstLayerNorm2d),
    "batch-one": Layout(stage=batch_one.Stage),
    "tiled": Layout(  # channel-last with `row_tiles`
        stage=tiled.Stage,
        pointwise=tiled.Pointwise,
        head=tiled.Head,
        stem=tiled.stem,
        first_stage=tiled.ConvStage,
        first_merging=tiled.first_merging,
    ),
}
