"""Four bits for a matrix, chosen by what its product with real inputs loses.

Rounding to the nearest number keeps the weights; what counts is the product. So inputs are rounded
one after the other, the error of each spread over those still to come, as far as they go together
(GPTQ, Frantar et al., 2022, arXiv:2210.17323). The scale of a block of inputs is chosen when its
turn comes, for the weights as they are by then.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mobilesam_export.backends.compensation import damped, error_spread
from mobilesam_export.backends.onnx import ranges
from mobilesam_export.backends.onnx.graph import Array, GraphEditor, Node
from mobilesam_export.backends.onnx.store import LEVELS, block_scales, pack_four_bits
from mobilesam_export.target import Recipe

ROWS = 2_048  # of inputs that are taken from each sample, evenly spaced


def four_bits(
    graph: GraphEditor,
    model: Node,
    layers: Sequence[Node],
    recipe: Recipe,
    finder: ranges.Finder,
) -> Iterator[tuple[Node, tuple[Array, Array]]]:
    """Each layer with its matrix, rounded to the nearest or by what that does to the product."""
    size, seen = recipe.group_size, finder.moments
    if recipe.calibrate_weights and (new := {layer.input[0] for layer in layers} - set(seen)):
        seen.update(moments(model, new, finder.samples))
    for layer in layers:
        taken, weight = layer.input
        matrix, scales = graph.constants[weight], None
        if taken in seen:
            matrix, scales = compensated(matrix, seen[taken], size)
        yield layer, pack_four_bits(matrix, size, scales)


def moments(
    model: Node, tensors: Collection[str], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Tensor]:
    """Second moments of what matrices are multiplied with.

    Args:
        model: float32.
        tensors: (..., K), the left operands of products.
        samples: inputs of the model, one or more.

    Returns:
        By tensor (K, K) float64, mean of x x^T.
    """
    sums: dict[str, Tensor] = {}
    for outputs in ranges.observe(model, sorted(tensors), samples):
        for name, value in outputs.items():
            rows = torch.from_numpy(value).flatten(0, -2)
            rows = rows[:: len(rows) // ROWS | 1]
            sums[name] = sums.get(name, 0.0) + (rows.T @ rows / len(rows)).double()
    return {name: total / len(samples) for name, total in sums.items()}


def compensated(matrix: Array, moment: Tensor, block: int) -> tuple[Array, Array]:
    """A matrix of numbers that four bits hold, with one scale for a block.

    Args:
        matrix: (K, N) float32.
        moment: (K, K) float64, of its inputs.
        block: inputs of an output that share a scale; K is a multiple of it.

    Returns:
        For `pack_four_bits`: the matrix, (K, N) float32, and scales, (N, K / block) float32.
    """
    left = matrix.astype(np.float64)
    spread = error_spread(damped(moment))
    upper = spread.numpy()
    chosen, scales = np.empty_like(left), []
    for start in range(0, len(left), block):
        end, errors = start + block, []
        scale = block_scales(left[start:end].T)
        for row in range(start, end):
            chosen[row] = np.clip(np.round(left[row] / scale), *LEVELS) * scale
            errors.append((left[row] - chosen[row]) / upper[row, row])
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], errors[-1])
        later = spread[start:end, end:].T @ torch.from_numpy(np.array(errors))
        left[end:] -= later.numpy()
        scales.append(scale)
    return chosen.astype(np.float32), np.stack(scales, axis=1)
