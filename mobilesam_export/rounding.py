"""A recipe's numbers in PyTorch: weights of some layers, and what these take, rounded for a while.

The same for every backend; nothing of a converter or a runtime is in it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mobilesam_export.backends.simulation import Fix, Inputs, Range
from mobilesam_export.contract import Array
from mobilesam_export.target import Recipe
from mobilesam_export.target.recipe import PRECISIONS

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
BITS = 8
KEPT = 20_000  # values of a map that a range is chosen by, evenly spaced
LLOYD_STEPS = 12  # of k-means in one dimension; more changes the third digit of a PSNR


@dataclass(frozen=True)
class Known:
    """What is known of a file's numbers beyond the words of its recipe.

    Attributes:
        weights: by name, float32 on their grid in place of those that are nearest.
        inputs: by the name of a layer's weight, how what it takes is rounded; no other layer's is.
            None: every layer's, in the range of each map.
        ranges: by the same name, the range that samples fix for what the layer takes.
        results: that of what it gives.
    """

    weights: Mapping[str, Array] = field(default_factory=dict)
    inputs: Mapping[str, Inputs] | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    results: Mapping[str, Range] = field(default_factory=dict)

    def rounds(self, weight: str) -> bool:
        """Whether what is multiplied with a weight is rounded, if the recipe rounds activations."""
        return self.inputs is None or weight in self.inputs

    def bits(self, weight: str) -> int:
        """Of a weight in whole numbers with one scale for each output."""
        return (self.inputs or {}).get(weight, Inputs()).weight_bits


NOTHING_KNOWN = Known()


@dataclass
class Seen:
    """What samples show of one tensor, for the range that is fixed for it."""

    low: float = math.inf
    high: float = -math.inf
    kept: list[Array] = field(default_factory=list)

    def add(self, value: Tensor) -> None:
        """One sample's values."""
        low, high = value.aminmax()
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        flat = value.float().flatten()
        few = flat[:: len(flat) // KEPT | 1].clone()  # else all is kept
        self.kept.append(few.cpu().numpy())

    def fixed(self, fix: Fix) -> Range:
        """The range."""
        return fix(self.low, self.high, np.concatenate(self.kept))


@contextlib.contextmanager
def rounded(
    module: nn.Module,
    group: str,
    names: Sequence[str],
    recipe: Recipe,
    known: Known = NOTHING_KNOWN,
) -> Iterator[None]:
    """Round these tensors of a module, and what the layers of the group take, while inside.

    Args:
        module: in export form.
        group: pattern of the layers.
        names: of the weights.
        recipe: how.
        known: of the file's numbers. Weights that are not among them become what is nearest.
    """
    kept = {name: tensor_of(module, name).detach().clone() for name in names}
    hooks: list[RemovableHandle] = []
    try:
        for name, value in kept.items():
            given = known.weights.get(name)
            bits = known.bits(name) if recipe.activations not in PRECISIONS else BITS
            found = round_weight(value, recipe, bits) if given is None else torch.from_numpy(given)
            tensor_of(module, name).data.copy_(found)
        for name, layer in module.named_modules():
            if isinstance(layer, LAYERS) and f"{name}.".startswith(f"{group}."):
                hooks += _rounding(layer, recipe.activations, f"{name}.weight", known)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, value in kept.items():
            tensor_of(module, name).data.copy_(value)


def round_weight(weight: Tensor, recipe: Recipe, bits: int = BITS) -> Tensor:
    """A weight as the recipe stores it, in float32 again; `bits` of one in int8 are used."""
    if recipe.weights == "float16":
        return weight.half().float()
    if recipe.weights.startswith("palette"):
        return _palette(weight, 2 ** int(recipe.weights.removeprefix("palette")))
    if recipe.weights == "int4":
        return _blocks(weight, recipe.group_size)
    if recipe.weights == "int8":
        flat = weight.reshape(weight.shape[0], -1)
        largest = float(2 ** (bits - 1) - 1)
        scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / largest
        return ((flat / scale).round() * scale).reshape(weight.shape)
    return weight


def _blocks(weight: Tensor, size: int) -> Tensor:
    """Four bits, one scale for `size` numbers of a row, as far as rows are a multiple of it."""
    flat = weight.reshape(weight.shape[0], -1)
    if flat.shape[1] % size:
        size = flat.shape[1]
    parts = flat.reshape(flat.shape[0], -1, size)
    scale = parts.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7.5
    return ((parts / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


def _palette(weight: Tensor, colors: int) -> Tensor:
    """Nearest of so many numbers, by k-means in one dimension from even quantiles."""
    values = weight.flatten().double().numpy()
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centers = np.unique(np.quantile(ordered, (np.arange(colors) + 0.5) / colors))
    for _ in range(LLOYD_STEPS):
        ends = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        centers = np.where(counts > 0, means, centers)
    nearest = centers[np.searchsorted((centers[1:] + centers[:-1]) / 2, values)]
    return torch.from_numpy(nearest).float().reshape(weight.shape)


def _rounding(
    layer: nn.Module, activations: str, weight: str, known: Known
) -> Iterator[RemovableHandle]:
    """Let a layer with the weight of this name round what it takes and, if a file does, gives."""
    if activations == "float32" or not known.rounds(weight):
        return
    rows = known.inputs is not None and known.inputs[weight].rows
    channels = (-1 if isinstance(layer, nn.Linear) else 1) if rows else None

    def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ends = known.ranges.get(weight)
        return tuple(
            _round_activation(item, activations, ends, channels)
            if isinstance(item, Tensor)  # rows of a tile come with their place
            else item
            for item in inputs
        )

    def give(_: nn.Module, __: tuple[Tensor, ...], result: Tensor) -> Tensor:
        return _round_activation(result, activations, known.results[weight])

    yield layer.register_forward_pre_hook(take)
    if weight in known.results:
        yield layer.register_forward_hook(give)


def _round_activation(
    value: Tensor, activations: str, ends: Range | None, axis: int | None = None
) -> Tensor:
    """In a range that is fixed, or in that of the map or of each place along an axis."""
    if activations == "float16":
        return value.half().float()
    if ends is not None:
        low, high = torch.tensor(ends)
    else:
        low, high = value.aminmax() if axis is None else value.aminmax(dim=axis, keepdim=True)
    if activations == "int16":
        scale = torch.maximum(-low, high).clamp_min(1e-12) / 32767
        return (value / scale).round().clamp(-32767, 32767) * scale
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / 255).clamp_min(1e-12)
    zero = (-low / scale).round()
    whole: Tensor = ((value / scale).round() + zero).clamp(0, 255)
    return whole.sub(zero).mul(scale)


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """A weight of a module, by name."""
    owner, _, last = name.rpartition(".")
    found = getattr(module.get_submodule(owner), last)
    assert isinstance(found, Tensor)  # noqa: S101 tells mypy
    return found
