"""A recipe's numbers in PyTorch: weights of some layers, and what these take, rounded for a while.

The same for every backend; nothing of a converter or a runtime is in it.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam_export.backends.compensation import NOT_FIXED, FromSamples
from mobilesam_export.backends.simulation import Range
from mobilesam_export.target import Recipe

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
LLOYD_STEPS = 12  # of k-means in one dimension; more changes the third digit of a PSNR


@contextlib.contextmanager
def rounded(
    module: nn.Module,
    group: str,
    names: Sequence[str],
    recipe: Recipe,
    fixed: FromSamples = NOT_FIXED,
) -> Iterator[None]:
    """Round these tensors of a module, and what the layers of the group take, while inside.

    Args:
        module: in export form.
        group: pattern of the layers.
        names: of the weights.
        recipe: how.
        fixed: what samples have fixed: weights that are given these numbers, and ranges of what
            layers take. Other weights become what is nearest, other ranges are found in each map.
    """
    kept = {name: tensor_of(module, name).detach().clone() for name in names}
    hooks = []
    try:
        for name, value in kept.items():
            known = fixed.weights.get(name)
            found = round_weight(value, recipe) if known is None else torch.from_numpy(known)
            tensor_of(module, name).data.copy_(found)
        for name, layer in module.named_modules():
            if isinstance(layer, LAYERS) and f"{name}.".startswith(f"{group}."):
                ends = fixed.ranges.get(f"{name}.weight")
                hooks.append(layer.register_forward_pre_hook(_rounding(recipe.activations, ends)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, value in kept.items():
            tensor_of(module, name).data.copy_(value)


def round_weight(weight: Tensor, recipe: Recipe) -> Tensor:
    """A weight as the recipe stores it, in float32 again."""
    if recipe.weights == "float16":
        return weight.half().float()
    if recipe.weights.startswith("palette"):
        return _palette(weight, 2 ** int(recipe.weights.removeprefix("palette")))
    if recipe.weights == "int4":
        return _blocks(weight, recipe.group_size)
    if recipe.weights == "int8":
        flat = weight.reshape(weight.shape[0], -1)
        scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
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


def _rounding(  # type: ignore[no-untyped-def] # noqa: ANN202 torch's hooks
    activations: str, ends: Range | None
):
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            _round_activation(item, activations, ends) if isinstance(item, Tensor) else item
            for item in inputs
        )

    return hook


def _round_activation(value: Tensor, activations: str, ends: Range | None) -> Tensor:
    """In the range that is fixed, if one is and the recipe does not find it anew."""
    if activations == "float16":
        return value.half().float()
    low, high = value.aminmax()
    if ends is not None and not activations.startswith("dynamic"):
        low, high = torch.tensor(ends)
    if activations in ("int8", "dynamic-int8"):
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = ((high - low) / 255).clamp_min(1e-12)
        zero = (-low / scale).round()
        return ((value / scale).round() + zero).clamp(0, 255).sub(zero) * scale
    if activations == "int16":
        scale = torch.maximum(-low, high).clamp_min(1e-12) / 32767
        return (value / scale).round().clamp(-32767, 32767) * scale
    return value


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """A weight of a module, by name."""
    owner, _, last = name.rpartition(".")
    found = getattr(module.get_submodule(owner), last)
    assert isinstance(found, Tensor)  # noqa: S101 tells mypy
    return found
