"""A narrower image encoder made from a wider one, for training to begin with.

Channels are left out (see `channels`), then the weights of each linear layer are fitted to give
what the wide encoder has there from what the narrow one has before it: least squares on a few
images, layer after layer, so that each layer makes good what those before it lost. The idea is
that of channel pruning (He et al., 2017, arXiv:1707.06168), here for a TinyViT.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.distillation.channels import (
    Channels,
    Moments,
    as_rows,
    choose_channels,
    named_units,
    stage_of,
)
from mobilesam_export.model.architecture import Architecture
from mobilesam_export.model.tiny_vit import (
    Conv2dBN,
    MBConv,
    PatchEmbed,
    PatchMerging,
    TinyViT,
    TinyViTBlock,
)

# Of the mean variance of a layer's inputs: what holds it to the wide encoder's own weights. On
# scenes at 256, 16 to learn from and 8 others: 0.001 28.1 dB, 0.01 28.6, 0.03 28.7, 0.1 28.5.
RIDGE = 0.03
# The layers of each kind of unit that are fitted, in order, and for the last of a residual branch
# the part of the unit that the residual passes by: "" for the whole.
FITTED: dict[type[nn.Module], dict[str, str | None]] = {
    PatchEmbed: {"seq.2": None},
    MBConv: {"conv1": None, "conv3": ""},
    TinyViTBlock: {"attn.qkv": None, "attn.proj": "attn", "mlp.fc1": None, "mlp.fc2": "mlp"},
    PatchMerging: {"conv1": None, "conv3": None},
    nn.Sequential: {"0": None},  # the neck, whose second convolution is as wide as before
}
Record = dict[str, tuple[Tensor, Tensor]]  # by module, rows of what it takes and of what it gives
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
    before, now = list(images), list(images)
    for (name, unit), (_, fitted) in zip(named_units(wide), named_units(narrow), strict=True):
        for layer, branch in FITTED[type(fitted)].items():
            outputs, moments = kept[f"{name}.{layer}"][0], Moments()
            for x, y in zip(before, now, strict=True):
                expected, found = (
                    _recorded(*given, layer, branch) for given in ((unit, x), (fitted, y))
                )
                target = expected[layer][1][:, outputs]
                if branch is not None:  # the layer also makes good what the residual lacks
                    target = target + expected[branch][0][:, outputs] - found[branch][0]
                moments.add(torch.cat([found[layer][0], target], 1))
            _fit(fitted.get_submodule(layer), moments)
        before, now = [unit(x) for x in before], [fitted(y) for y in now]


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


def _recorded(unit: nn.Module, x: Tensor, layer: str, branch: str | None) -> Record:
    """What a layer takes and gives, and what the residual passes by, in one run of a unit."""
    found: Record = {}
    handles = []
    for name in {layer, branch} - {None}:

        def note(
            module: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = str(name)
        ) -> None:
            found[name] = (_patches(inputs[0], module), as_rows(output, module))

        handles.append(unit.get_submodule(str(name)).register_forward_hook(note))
    try:
        unit(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _patches(values: Tensor, layer: nn.Module) -> Tensor:
    """(N, inputs) of what a layer's weights are multiplied with: of a kernel, what it covers."""
    convolution = layer.c if isinstance(layer, Conv2dBN) else layer
    if not isinstance(convolution, nn.Conv2d) or convolution.kernel_size == (1, 1):
        return as_rows(values, layer)
    kernel, padding, stride = convolution.kernel_size, convolution.padding, convolution.stride
    columns = F.unfold(values, kernel, padding=padding, stride=stride)  # type: ignore[arg-type]
    return columns.movedim(1, -1).flatten(0, -2)


def _fit(layer: nn.Module, moments: Moments) -> None:
    """Give a layer the weights that come nearest to what it should give.

    Args:
        layer: linear, or a convolution with or without BatchNorm; the last has no bias.
        moments: of rows of what its weights are multiplied with, followed by its outputs.
    """
    weight, biased = _matrix(layer), not isinstance(layer, nn.Conv2d)
    inputs = weight.shape[1]
    second = moments.covariance if biased else moments.second / moments.count
    own, shared = second[:inputs, :inputs], second[:inputs, inputs:]
    damping = RIDGE * own.diagonal().mean() * torch.eye(inputs, device=own.device)
    missing = torch.linalg.solve(own + damping, shared - own @ weight.T).T
    weight = weight + missing
    bias = moments.mean[inputs:] - weight @ moments.mean[:inputs]
    if isinstance(layer, Conv2dBN):
        layer.c.weight.copy_(weight.reshape(layer.c.weight.shape))
        _pass_on(layer.bn, bias)
    elif isinstance(layer, nn.Conv2d | nn.Linear):
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(bias)


def _matrix(layer: nn.Module) -> Tensor:
    """(outputs, inputs) float64 of a layer, with BatchNorm's scale."""
    if isinstance(layer, Conv2dBN):
        assert layer.bn.running_var is not None  # noqa: S101 kept in eval mode
        scale = layer.bn.weight / torch.sqrt(layer.bn.running_var + layer.bn.eps)
        return (layer.c.weight.flatten(1) * scale[:, None]).double()
    assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 what FITTED names
    return layer.weight.flatten(1).double()


def _pass_on(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """Make a BatchNorm add a bias and nothing else."""
    assert norm.running_mean is not None  # noqa: S101 kept in eval mode
    assert norm.running_var is not None  # noqa: S101
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(bias)
