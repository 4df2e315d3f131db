"""What a recipe leaves of an encoder's weights and of what its products take.

The numbers are those of `store` and `integer`, the choice of weights is `quantize`'s: only the
names are the export form's here, whose matrices lie the other way round than ONNX's.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import nn

from mobilesam_export.backends.onnx import compensation, quantize, ranges, store
from mobilesam_export.backends.onnx.integer import WEIGHT_BITS, symmetric
from mobilesam_export.backends.simulation import Inputs, Simulation
from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph, names
from mobilesam_export.target import Recipe, patterns

INT8_BITS, FOUR_BITS = 8, 4
OUTPUTS, HEADS = 0, 1  # axes with one scale for each index: of layers, and of attention's biases


def simulation(graph: Graph, recipe: Recipe, settings: quantize.Settings) -> Simulation | None:
    """See `Backend.simulation`."""
    inputs = rounded_inputs(graph, recipe, settings)
    if inputs is None:
        return None
    weights: dict[str, partial[Array]] = {}
    for name, bits in stored_bits(graph, recipe, settings).items():
        if bits == FOUR_BITS:
            weights[name] = partial(_in_blocks, size=recipe.group_size)
        else:
            axis = OUTPUTS if name.endswith(".weight") else HEADS
            weights[name] = partial(_by_channel, axis=axis, bits=bits)
    starts = {
        name: partial(_compensated, size=recipe.group_size)
        for name, rounding in weights.items()
        if recipe.calibrate_weights and rounding.func is _in_blocks
    }
    return Simulation(weights, inputs, starts)


def rounded_inputs(
    graph: Graph, recipe: Recipe, settings: quantize.Settings
) -> dict[str, Inputs] | None:
    """See `Backend.rounded_inputs`."""
    fix = None
    if recipe.activations == "int8":
        if settings.ranges not in ("minmax", "mse"):
            return None  # the others are ONNX Runtime's histograms
        fix = partial(ranges.fixed, settings.ranges)
    inputs = Inputs(fix, weight_bits=WEIGHT_BITS)
    return dict.fromkeys(integer_weights(graph, recipe, settings), inputs)


def stored_bits(graph: Graph, recipe: Recipe, settings: quantize.Settings) -> dict[str, int]:
    """Bits of those weights that become whole numbers."""
    found, kind = names.weights(graph.module, recipe.weight_threshold), graph.spec.name
    kinds, bits = quantize.stored_types(found, recipe, kind), dict[str, int]()
    for name, tensor in found.items():
        linear = isinstance(graph.module.get_submodule(name.rpartition(".")[0]), nn.Linear)
        if linear and quantize.takes_four_bits(name, tensor.shape[-1], recipe, kind):
            bits[name] = FOUR_BITS
        elif kinds[name] == store.INT8:
            bits[name] = INT8_BITS
    return bits | dict.fromkeys(integer_weights(graph, recipe, settings), WEIGHT_BITS)


def integer_weights(graph: Graph, recipe: Recipe, settings: quantize.Settings) -> list[str]:
    """Weights whose products are computed in int8."""
    listed = settings.integer.get(graph.spec.name, ())
    excepted: Mapping[str, str] = recipe.exceptions.get(graph.spec.name, {})

    def chosen(name: str) -> bool:
        layer = graph.module.get_submodule(name.rpartition(".")[0])
        dense = isinstance(layer, nn.Linear) or getattr(layer, "groups", 0) == 1
        taken = any(patterns.matches(name, pattern) for pattern in listed)
        return dense and taken and not any(patterns.matches(name, item) for item in excepted)

    return [name for name in names.weights(graph.module) if chosen(name)]


def _by_channel(weight: Array, axis: int, bits: int) -> Array:
    whole, scales = symmetric(weight, axis, bits)
    along = [-1 if index == axis else 1 for index in range(weight.ndim)]
    return whole.astype(np.float32) * scales.reshape(along)


def _in_blocks(weight: Array, size: int) -> Array:
    """(outputs, inputs) in four bits."""
    blocks = weight.reshape(len(weight), -1, size)
    scales = store.block_scales(blocks)
    whole = store.nearest_levels(blocks, scales)
    return (whole.astype(np.float32) * scales[..., None]).reshape(weight.shape)


def _compensated(weight: Array, moment: Array, size: int) -> Array:
    """(outputs, inputs) as `compensation` chooses four bits for what goes in."""
    return compensation.compensated(weight.T, torch.from_numpy(moment), size)[0].T
