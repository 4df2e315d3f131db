"""Weights that are worth palettizing: those of a convolution chosen by what comes out of it.

Nearest palette entries keep the weights; what counts is the convolution's output on real inputs.
So the palette is fitted to weights weighted by how large their inputs are, and entries are chosen
input channel by input channel, the error of each spread over the channels still to come, as far as
their inputs go together (GPTQ, Frantar et al., 2022, arXiv:2210.17323, with palettes for a grid).
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.backends.compensation import damped, error_spread
from mobilesam_export.contract import Array
from mobilesam_export.errors import TargetError
from mobilesam_export.mil import Operation, Program, Value, load_program

COLUMNS = 16_384  # of inputs that are taken from each sample, evenly spaced
ROUNDS = 30  # of Lloyd's algorithm; the palette hardly moves after


@dataclass(frozen=True)
class Grid:
    """What a weight may be.

    Attributes:
        entries: of each palette.
        group: output channels that share one; 0: all.
    """

    entries: int
    group: int


class Inputs:
    """Second moments of what a convolution multiplies its weights with.

    Args:
        kernel: height and width of the filters.
        stride: of the convolution; the padding is half the kernel.
    """

    def __init__(self, kernel: tuple[int, int], stride: int) -> None:
        self.kernel, self.stride = kernel, stride
        self.products: Tensor | None = None
        self.count = 0

    def add(self, x: Tensor) -> None:
        """One sample's (B, C, H, W)."""
        if self.kernel == (1, 1):
            columns = x.transpose(0, 1).reshape(x.shape[1], -1)
        else:
            padding = (self.kernel[0] // 2, self.kernel[1] // 2)
            columns = F.unfold(x, self.kernel, padding=padding, stride=self.stride)
            columns = columns.transpose(0, 1).reshape(columns.shape[1], -1)
        columns = columns[:, :: max(1, columns.shape[1] // COLUMNS)]
        product = columns @ columns.T
        self.products = product if self.products is None else self.products + product
        self.count += columns.shape[1]

    def moments(self) -> Tensor:
        """(inputs, inputs) float64, mean of x x^T, damped."""
        assert self.products is not None
        return damped(self.products.double() / self.count)


def compensate(
    model: Any, grids: Mapping[str, Grid], samples: Sequence[Mapping[str, Array]]
) -> Any:
    """Give convolutions weights that palettes can hold exactly.

    Args:
        model: an MLModel in float16; it is not changed.
        grids: by the name of a weight; weights of other operations are left alone.
        samples: inputs of the program; the MIL interpreter runs it to see what convolutions take.

    Raises:
        TargetError: there are no samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model.mlpackage"
        model.save(str(package))
        interpreter = load_program(package)
        convolutions = {
            op.inputs["weight"][0]: op
            for op in interpreter.program.operations
            if is_dense(op, interpreter.program) and op.inputs["weight"][0] in grids
        }
        if not convolutions:
            return model
        if not samples:
            raise TargetError("weights chosen by their effect need calibration: no samples")
        seen = {}
        consumers: dict[str, dict[object, Inputs]] = {}
        for weight, op in convolutions.items():  # convolutions of one input share its moments
            inputs = _inputs(op, interpreter.program)
            alike = consumers.setdefault(op.inputs["x"][0], {})
            seen[weight] = alike.setdefault((inputs.kernel, inputs.stride), inputs)

        def observe(_: Operation, value: Value, tensor: Tensor) -> None:
            for taken in consumers.get(value.name, {}).values():
                taken.add(tensor)

        for sample in samples:
            interpreter.run(sample, observe)
        made = {
            weight: compensated(_array(interpreter.program, weight), grids[weight], inputs)
            for weight, inputs in seen.items()
        }
    return replace_weights(model, made)


def is_dense(operation: Operation, program: Program) -> bool:
    """Whether it is a convolution in which every input channel goes to every output channel."""
    if operation.kind != "conv":
        return False
    groups = operation.inputs.get("groups")
    return groups is None or int(_array(program, groups[0])) == 1


def _inputs(operation: Operation, program: Program) -> Inputs:
    shape = _array(program, operation.inputs["weight"][0]).shape
    strides = operation.inputs.get("strides")
    stride = int(_array(program, strides[0]).reshape(-1)[0]) if strides else 1
    return Inputs((shape[2], shape[3]), stride)


def _array(program: Program, name: str) -> Array:
    return np.asarray(program.constants[name][1])


def replace_weights(model: Any, weights: Mapping[str, Array]) -> Any:
    """The same program with other numbers in some constants, by name."""
    from mobilesam_export.backends.coreml import passes

    return passes.applied(model, passes.replace_constants(weights))


def compensated(weight: Array, grid: Grid, inputs: Inputs) -> Array:
    """A convolution's weight (O, I, kH, kW) from palettes: float16 of at most `entries` values."""
    original = torch.from_numpy(np.asarray(weight, np.float64)).flatten(1)
    moments = inputs.moments()
    groups = len(original) // grid.group if grid.group else 1
    palettes = _palettes(original.reshape(groups, -1, original.shape[1]), moments, grid.entries)
    chosen = _choose(original, palettes, moments)
    made: Array = chosen.reshape(weight.shape).numpy().astype(np.float16)
    return made


def _palettes(weights: Tensor, moments: Tensor, entries: int) -> Tensor:
    """(groups, rows, inputs) -> (groups, entries): k-means by the inputs' mean squares."""
    groups = len(weights)
    importance = moments.diagonal().expand(weights.shape).reshape(groups, -1)
    values = weights.reshape(groups, -1)
    order = values.argsort(dim=1, stable=True)
    values, importance = values.gather(1, order), importance.gather(1, order)
    # Start where each entry has the same part of the sum of cube roots of the density's weight.
    total = importance.pow(1 / 3).cumsum(1)
    places = torch.linspace(0.5 / entries, 1 - 0.5 / entries, entries, dtype=total.dtype)
    starts = torch.searchsorted(total, places[None] * total[:, -1:])
    palette = values.gather(1, starts.clamp(max=values.shape[1] - 1))
    for _ in range(ROUNDS):
        nearest = torch.searchsorted((palette[:, 1:] + palette[:, :-1]) / 2, values)
        mass = torch.zeros_like(palette).scatter_add_(1, nearest, importance)
        moment = torch.zeros_like(palette).scatter_add_(1, nearest, importance * values)
        palette = torch.where(mass > 0, moment / mass.clamp(min=1e-300), palette).sort(1)[0]
    return palette.half().double()


def _choose(weights: Tensor, palettes: Tensor, moments: Tensor) -> Tensor:
    """(O, inputs), palettes of groups of rows -> entries, the largest inputs first."""
    order = moments.diagonal().argsort(descending=True, stable=True)
    spread = error_spread(moments[order][:, order])
    left = weights[:, order].clone()
    rows_of_palette = len(left) // len(palettes)
    middles = (palettes[:, 1:] + palettes[:, :-1]) / 2
    chosen = torch.empty_like(left)
    for index in range(left.shape[1]):
        column = left[:, index].reshape(len(palettes), rows_of_palette).contiguous()
        entry = palettes.gather(1, torch.searchsorted(middles, column)).reshape(-1)
        chosen[:, index] = entry
        error = (left[:, index] - entry) / spread[index, index]
        left[:, index + 1 :] -= error[:, None] * spread[index, index + 1 :]
    return chosen[:, order.argsort()]
