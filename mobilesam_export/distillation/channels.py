"""Which channels of a wide image encoder a narrower one keeps.

Greedily, as in column subset selection: each time the channel from which, with those that are
chosen already, the outputs of a linear layer are best guessed by least squares. What a stage's
blocks hand on is read by many layers, so there it is the channels themselves that are guessed.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from mobilesam_export.distillation.layerwise import Moments, as_rows, named_units
from mobilesam_export.model.architecture import STAGES, Architecture
from mobilesam_export.model.tiny_vit import (
    MLP_RATIO,
    Attention,
    MBConv,
    PatchMerging,
    TinyViT,
    TinyViTBlock,
)

SMALLEST = 1e-6  # of the mean variance: less is what rounding leaves of a channel
STEM = "patch_embed.seq.2.c"
LAST = {MBConv: "conv3.c", TinyViTBlock: "mlp.fc2", PatchMerging: "conv3.c"}


@dataclass(frozen=True)
class Channels:
    """What is kept, int64 in rising order.

    Attributes:
        stem: channels of the first convolution.
        streams: of what the blocks of each stage hand on.
        hidden: of what the last layer of a block or merging takes, by its name.
        heads: of attention, by the name of the block.
    """

    stem: Tensor
    streams: tuple[Tensor, ...]
    hidden: dict[str, Tensor]
    heads: dict[str, Tensor]


def can_narrow(wide: Architecture, narrow: Architecture) -> bool:
    """Whether the narrow one is the wide one with fewer channels and heads, and nothing else."""
    stages = zip(wide.widths[1:], wide.heads[1:], narrow.widths[1:], narrow.heads[1:], strict=True)
    return (
        (wide.depths, wide.windows) == (narrow.depths, narrow.windows)
        and narrow.widths[0] <= wide.widths[0]
        and all(w // h == v // g and g <= h for w, h, v, g in stages)
    )


@torch.no_grad()
def choose_channels(wide: TinyViT, narrow: Architecture, images: Iterable[Tensor]) -> Channels:
    """Channels that say most of what the wide encoder computes.

    Args:
        wide: in eval mode.
        narrow: how many of each are kept, see `can_narrow`.
        images: (B, 3, S, S) float32, normalised.
    """
    units = dict(named_units(wide))
    readers = [_readers(list(units), stage) for stage in range(STAGES)]
    last = {
        name: f"{name}.{LAST[type(unit)]}" for name, unit in units.items() if type(unit) in LAST
    }
    attention = {name: unit.attn for name, unit in units.items() if isinstance(unit, TinyViTBlock)}
    wanted = [STEM, *last.values(), *(f"{name}.attn.proj" for name in attention)]
    found = _input_moments(wide, [*wanted, *chain.from_iterable(readers)], images)

    def hidden(name: str) -> Tensor:
        merging, stage = isinstance(units[name], PatchMerging), stage_of(name)
        count = narrow.widths[stage + 1] if merging else MLP_RATIO * narrow.widths[stage]
        layer = wide.get_submodule(last[name])
        assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 what LAST names
        return choose(found[last[name]].covariance, layer.weight.flatten(1), count)

    def heads(name: str, layer: Attention) -> Tensor:
        covariance = found[f"{name}.attn.proj"].covariance
        return _strongest_heads(covariance, layer, narrow.heads[stage_of(name)])

    streams = zip(readers, narrow.widths, strict=True)
    return Channels(
        _independent([found[STEM]], narrow.widths[0] // 2),
        tuple(_independent([found[name] for name in names], width) for names, width in streams),
        {name: hidden(name) for name in last},
        {name: heads(name, layer) for name, layer in attention.items()},
    )


def stage_of(unit: str) -> int:
    """The number of the stage of a block or merging."""
    return int(unit.split(".")[1])


def choose(covariance: Tensor, weight: Tensor, count: int) -> Tensor:
    """Channels from which a linear layer's outputs are best guessed, chosen one after the other.

    Args:
        covariance: (C, C) float64, of the channels.
        weight: (outputs, C), of the layer that takes them.
        count: how many to choose.

    Returns:
        (count,) int64, rising.
    """
    # What the chosen ones leave unsaid: of the channels, and of the outputs that each moves.
    left, moved = covariance.clone(), covariance @ weight.double().T
    least = SMALLEST * float(covariance.diagonal().mean())
    chosen: list[int] = []
    for _ in range(count):
        variance = left.diagonal()
        gain = moved.square().sum(1) / variance.clamp(min=least)
        gain[variance <= least] = -1.0  # nothing is left of it, but it is still better than twice
        gain[chosen] = -2.0
        best = int(gain.argmax())
        chosen.append(best)
        share = left[best] / max(float(variance[best]), least)
        left, moved = left - torch.outer(share, left[best]), moved - torch.outer(share, moved[best])
    return torch.tensor(sorted(chosen))


def _independent(found: list[Moments], count: int) -> Tensor:
    """Channels from which all are best guessed, at several places that count alike."""
    covariances = [moments.covariance for moments in found]
    total = torch.stack([each / each.trace() for each in covariances]).sum(0)
    return choose(total, torch.eye(len(total), device=total.device), count)


def _strongest_heads(covariance: Tensor, attention: Attention, count: int) -> Tensor:
    """Heads whose part of the projection varies most."""
    heads = attention.heads
    parts = attention.proj.weight.double().reshape(len(covariance), heads, -1)
    blocks = covariance.reshape(heads, parts.shape[2], heads, parts.shape[2])
    variances = torch.einsum("ohc,hchd,ohd->h", parts, blocks, parts)
    return variances.topk(count).indices.sort().values


def _readers(units: list[str], stage: int) -> list[str]:
    """The units that take what the blocks of a stage hand on."""
    blocks = [name for name in units if name.startswith(f"layers.{stage}.blocks.")]
    return [*blocks, units[units.index(blocks[-1]) + 1]]


def _input_moments(
    encoder: nn.Module, names: Iterable[str], images: Iterable[Tensor]
) -> dict[str, Moments]:
    found: dict[str, Moments] = {name: Moments() for name in names}
    with ExitStack() as hooks:
        for name, moments in found.items():

            def note(layer: nn.Module, inputs: tuple[Tensor], moments: Moments = moments) -> None:
                rows = as_rows(inputs[0], layer)
                moments.add(rows, rows[:, :0])

            hooks.enter_context(encoder.get_submodule(name).register_forward_pre_hook(note))
        for image in images:
            encoder(image)
    return found
