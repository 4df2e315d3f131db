"""A narrower image encoder made from a wider one, for training to begin with.

Channels are left out (see `channels`), then every layer's weights are fitted to what is left (see
`layerwise`). The idea is that of channel pruning (He et al., 2017, arXiv:1707.06168), here for a
TinyViT.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mobilesam_export.distillation.channels import Channels, choose_channels, stage_of
from mobilesam_export.distillation.layerwise import fit_layers, named_units, solve
from mobilesam_export.model.architecture import Architecture
from mobilesam_export.model.tiny_vit import Conv2dBN, PatchMerging, TinyViT, TinyViTBlock

# Outputs and inputs that a layer keeps, or all.
Kept = tuple[Tensor | slice, Tensor | slice]
ALL = slice(None)


@torch.no_grad()
def narrow_down(
    wide: TinyViT, narrow: TinyViT, architecture: Architecture, images: Sequence[Tensor]
) -> None:
    """Give a narrower encoder weights with which it computes nearly what the wide one does.

    Args:
        wide: in eval mode.
        narrow: in eval mode, on the same device. Changed in place.
        architecture: of the narrow one, see `channels.can_narrow`.
        images: (B, 3, S, S) float32, normalised.
    """
    kept = _kept(wide, choose_channels(wide, architecture, images))
    for name, (outputs, inputs) in kept.items():
        _copy(wide.get_submodule(name), narrow.get_submodule(name), outputs, inputs)
    fit_layers(
        wide,
        narrow,
        images,
        lambda layer, moments: solve(narrow.get_submodule(layer), moments),
        lambda layer: kept[layer][0],
    )


def _kept(wide: TinyViT, channels: Channels) -> dict[str, Kept]:
    """What every layer keeps, by its name; a convolution with its BatchNorm is one layer."""
    streams, hidden = channels.streams, channels.hidden
    found: dict[str, Kept] = {
        "patch_embed.seq.0": (channels.stem, ALL),
        "patch_embed.seq.2": (streams[0], channels.stem),
        "neck.0": (ALL, streams[-1]),
        **{f"neck.{number}": (ALL, ALL) for number in (1, 2, 3)},
    }
    for name, unit in named_units(wide):
        if name not in hidden:
            continue
        stage, inner = stage_of(name), hidden[name]
        stream, after = streams[stage], streams[stage]
        layers: dict[str, Kept]
        if isinstance(unit, TinyViTBlock):
            layers = _kept_of_block(unit, channels.heads[name], stream, inner)
        else:
            after = streams[stage + 1] if isinstance(unit, PatchMerging) else stream
            layers = {"conv1": (inner, stream), "conv2": (inner, ALL), "conv3": (after, inner)}
        found |= {f"{name}.{layer}": value for layer, value in layers.items()}
    return found


def _kept_of_block(
    block: TinyViTBlock, heads: Tensor, stream: Tensor, hidden: Tensor
) -> dict[str, Kept]:
    width = block.attn.proj.in_features // block.attn.heads

    def columns(per_head: int) -> Tensor:
        return (heads[:, None] * per_head + torch.arange(per_head, device=heads.device)).flatten()

    return {
        "attn": (heads, ALL),
        "attn.norm": (stream, ALL),
        "attn.qkv": (columns(3 * width), stream),  # q, k and v of each head stand together
        "attn.proj": (stream, columns(width)),
        "local_conv": (stream, ALL),
        "mlp.norm": (stream, ALL),
        "mlp.fc1": (hidden, stream),
        "mlp.fc2": (stream, hidden),
    }


def _copy(
    wide: nn.Module, narrow: nn.Module, outputs: Tensor | slice, inputs: Tensor | slice
) -> None:
    """Copy what is kept of a layer: of its own parameters, or of a convolution's and its norm's."""
    if isinstance(wide, Conv2dBN):
        _copy(wide.c, narrow.get_submodule("c"), outputs, inputs)
        _copy(wide.bn, narrow.get_submodule("bn"), outputs, ALL)
        return
    own = {**dict(wide.named_parameters(recurse=False)), **dict(wide.named_buffers(recurse=False))}
    given = narrow.state_dict()
    for name in own.keys() & given.keys():
        value = own[name]
        if value.ndim:
            value = value[outputs] if value.ndim == 1 else value[outputs][:, inputs]
            given[name].copy_(value)
