"""Fewer bits for the weights of a module, as Core AI's operations unpack them.

A weight becomes a call of `coreai::constexpr_blockwise_shift_scale` (int8) or
`coreai::lut_to_dense` (palettes), which coreai-torch takes over into the asset. coreai-opt, Apple's
compressor, makes the same calls. It is not used: it leaves buffers alone (attention biases,
positions, hypernetworks), its passes over a program have no exceptions for single weights, and its
k-means needs a C++ compiler at run time.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import names
from mobilesam_export.target import Recipe, patterns

LARGEST = 127  # of symmetric int8
BINS = 2048  # of the histogram that a palette starts from
ROUNDS = 30  # of Lloyd's algorithm; the palette hardly moves after


def compress(module: nn.Module, recipe: Recipe, graph: str) -> None:
    """Store weights as the recipe says.

    Args:
        module: in float16, in export form; changed in place.
        recipe: with compressed weights.
        graph: the name of the module's file.

    Raises:
        TargetError: a group size does not divide a weight.
    """
    found = names.weights(module, recipe.weight_threshold)
    excepted = patterns.stored_types({n: n for n in found}, recipe.exceptions.get(graph, {}))
    for name, weight in found.items():
        kind = excepted.get(name, recipe.weights)
        if kind == "float16":
            continue
        if kind == "int8":
            unpacking = _int8(weight, recipe.granularity)
        else:
            group = recipe.group_size if name not in excepted else 0
            unpacking = _palettes(weight, 2 ** int(kind.removeprefix("palette")), group, name)
        owner, _, attribute = name.rpartition(".")
        parametrize.register_parametrization(
            module.get_submodule(owner), attribute, unpacking, unsafe=True
        )


def _int8(weight: Tensor, granularity: str) -> nn.Module:
    """Symmetric, one scale for each entry of the axis of channels, or for all."""
    from coreai_torch._compression.custom_layers import WeightDequantizeModule

    kept = -1 if granularity == "per_tensor" else _channel_axis(weight)
    axes = [axis for axis in range(weight.ndim) if axis != kept]
    scale = weight.float().abs().amax(axes, keepdim=True).clamp_min(1e-12) / LARGEST
    scale = scale.to(weight.dtype).clamp_min(torch.finfo(weight.dtype).tiny)
    data = (weight.float() / scale.float()).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return _parametrization(WeightDequantizeModule, quantized_data=data, scale=scale)


def _palettes(weight: Tensor, entries: int, group: int, name: str) -> nn.Module:
    """One palette for each `group` entries of the axis of channels; 0: one for all."""
    from coreai_torch._compression.custom_layers import PalettizeModule

    axis = _channel_axis(weight)
    rows = weight.shape[axis]
    if group and rows % group:
        raise TargetError(
            f"group_size is {group}, which does not divide the {rows} channels of {name}: name "
            "that weight in the recipe's exceptions",
            "group_size",
        )
    groups = rows // group if group else 1
    values = weight.float().reshape(groups, -1)
    palettes = torch.stack([_palette(row, entries) for row in values]).to(weight.dtype)
    middles = (palettes[:, 1:].float() + palettes[:, :-1].float()) / 2
    indices = torch.searchsorted(middles, values).to(torch.uint8).reshape(weight.shape)
    shape = [1] * weight.ndim
    shape[axis] = groups
    lut = palettes.reshape(*shape, entries, 1)
    return _parametrization(PalettizeModule, indices=indices, lut=lut)


def _palette(values: Tensor, entries: int) -> Tensor:
    """K-means in one dimension: `entries` numbers in ascending order."""
    values = values.double().sort()[0]
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    palette = _start(values, entries)
    for _ in range(ROUNDS):
        inner = torch.searchsorted(values, (palette[1:] + palette[:-1]) / 2)
        ends = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(values))])
        counts = ends.diff()
        means = sums[ends].diff() / counts.clamp_min(1)
        palette = torch.where(counts > 0, means, palette).sort()[0]
    return palette


def _start(values: Tensor, entries: int) -> Tensor:
    """As dense as the cube root of the density of `values`, which is best for many entries.

    (Panter and Dite, 1951.) Even quantiles leave too few to the tails: Lloyd's algorithm ends 10 dB
    of the embedding's PSNR below in six bits.
    """
    low, high = values[0], values[-1]
    counts = torch.histc(values, BINS, float(low), float(high))
    total = counts.pow(1 / 3).cumsum(0)
    places = (torch.arange(entries) + 0.5) / entries * total[-1]
    bins = torch.searchsorted(total, places)
    return low + (bins + 0.5) * (high - low) / BINS


def _channel_axis(weight: Tensor) -> int:
    """The first axis with more than one entry."""
    return next((axis for axis, size in enumerate(weight.shape) if size > 1), 0)


def _parametrization(kind: Any, **tensors: Tensor) -> nn.Module:
    """coreai-torch's module for a packed weight, as a parametrization of that weight."""
    from coreai_torch._compression.utils import wrap_for_parametrization

    made: nn.Module = wrap_for_parametrization(kind)(**tensors)
    return made
