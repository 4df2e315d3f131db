"""What a recipe with int8 weights leaves of an encoder's weights and of what convolutions take.

Palettes are not simulated: k-means over all weights would take longer than a step of training.
"""

from functools import partial

import torch
from torch import nn

from mobilesam_export.backends.coreml import activations
from mobilesam_export.backends.coreml.settings import CoremlSettings
from mobilesam_export.backends.simulation import Inputs, Rounding, Simulation
from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph, names
from mobilesam_export.target import Recipe, patterns

LEVELS = 127  # on each side of zero
FIRST = "stem.conv1"  # takes the image, which is no result of an operation


def simulation(graph: Graph, recipe: Recipe, settings: CoremlSettings) -> Simulation | None:
    """See `Backend.simulation`."""
    if recipe.weights != "int8":
        return None
    found = names.weights(graph.module, recipe.weight_threshold)
    name = graph.spec.name
    kinds = patterns.stored_types({key: key for key in found}, recipe.exceptions.get(name, {}))
    axis = 0 if recipe.granularity == "per_channel" else None
    rounding: Rounding = partial(stored, axis=axis)
    weights = {key: rounding for key in found if kinds.get(key, "int8") == "int8"}
    return Simulation(weights, rounded_inputs(graph, recipe, settings))


def rounded_inputs(graph: Graph, recipe: Recipe, settings: CoremlSettings) -> dict[str, Inputs]:
    """See `Backend.rounded_inputs`."""
    taken = _integer_inputs(graph, recipe, settings) if recipe.activations == "int8" else ()
    return dict.fromkeys(taken, Inputs(activations.fixed_range))


def stored(weight: Array, axis: int | None) -> Array:
    """What is left of a weight after float16 and coremltools' symmetric int8, float32.

    Args:
        weight: float32.
        axis: with one scale for each index, or None for one scale.
    """
    half = torch.from_numpy(weight).half()  # numpy's float16 is ten times slower
    others = [index for index in range(half.ndim) if index != axis]
    peak = half.abs().amax(others, keepdim=True)
    scale = (peak - -peak) / (2 * LEVELS)
    scale = torch.where(scale == 0, 1, scale)
    whole = (half / scale).round().clamp(-LEVELS, LEVELS)
    restored: Array = (whole * scale).float().numpy()
    return restored


def _integer_inputs(graph: Graph, recipe: Recipe, settings: CoremlSettings) -> list[str]:
    """Weights of convolutions that take int8."""
    name = graph.spec.name
    floats = (*settings.float_inputs.get(name, ()), *recipe.exceptions.get(name, ()))
    convolutions = [
        f"{path}.weight"
        for path, layer in graph.module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and path != FIRST
    ]
    return [
        weight
        for weight in convolutions
        if not any(item == "*" or patterns.matches(weight, item) for item in floats)
    ]
