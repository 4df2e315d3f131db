"""int8 activations for a Core ML program, their ranges from samples run by the MIL interpreter.

Core ML's own calibration needs a Mac. Here the float program runs in the interpreter, so the
ranges are those of the very values that are quantised. Only inputs of convolutions that are not
depthwise are: attention's products, softmax, normalisation, GELU and residual sums stay float16.
"""

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam_export.backends.coreml import names
from mobilesam_export.backends.coreml.compensation import is_dense
from mobilesam_export.contract import Array
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import Graph
from mobilesam_export.mil import Interpreter, Operation, Program, Value, load_program
from mobilesam_export.target import patterns

Samples = Sequence[Mapping[str, Array]]

KEPT = 20_000  # numbers of a tensor that are kept from each sample, evenly spaced
# The part of its whole range that a tensor is clipped to is the one of these that gives the
# smallest mean squared error on the numbers kept.
PARTS = tuple(np.linspace(0.3, 1.0, 15))
LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Affine:
    """int8 = round(x / scale) + zero_point."""

    scale: float
    zero_point: int


@dataclass
class Observed:
    """What was seen of one tensor."""

    low: float = 0.0  # a range has 0 in it, so that 0 stays exact
    high: float = 0.0
    kept: list[Tensor] = field(default_factory=list)

    def add(self, tensor: Tensor) -> None:
        """One sample's values."""
        self.low = min(self.low, float(tensor.min()))
        self.high = max(self.high, float(tensor.max()))
        flat = tensor.reshape(-1)
        self.kept.append(flat[:: max(1, len(flat) // KEPT)].clone())

    def best(self) -> Affine:
        """The scale and zero point with the smallest mean squared error."""
        return _best(self.low, self.high, torch.cat(self.kept))


def fixed_range(low: float, high: float, values: Array) -> tuple[float, float]:
    """The range that int8 stands for, of a tensor with this range and a sample of its values."""
    affine = _best(min(low, 0.0), max(high, 0.0), torch.from_numpy(values))
    first, last = ((end - affine.zero_point) * affine.scale for end in (LOWEST, HIGHEST))
    return first, last


def _best(low: float, high: float, values: Tensor) -> Affine:
    made = [_affine(low * part, high * part) for part in PARTS]
    return min(made, key=lambda a: float((quantized(values, a) - values).square().mean()))


def quantized(values: Tensor, affine: Affine) -> Tensor:
    """What is left of float values after int8."""
    steps = (values / affine.scale).round() + affine.zero_point
    return (steps.clamp(LOWEST, HIGHEST) - affine.zero_point) * affine.scale


def int8_inputs(
    model: Any,
    floats: Sequence[str],
    graph: Graph,
    samples: Samples,
    excepted: Iterable[str] = (),
    known: dict[str, Affine] | None = None,
) -> list[Any]:
    """Passes that let convolutions take int8.

    Args:
        model: an MLModel in float16 for iOS 17 or newer; it is not changed.
        floats: patterns of weights whose convolutions still take float16.
        graph: what the program was converted from.
        samples: inputs of the graph, in the contract's form.
        excepted: patterns of the recipe's exceptions, whose convolutions still take float16, too;
            they may match other weights.
        known: what the same samples have given for values of the same program; added to.

    Returns:
        For `passes.applied`; none if no convolution is to take int8.

    Raises:
        TargetError: a pattern matches no weight of a convolution, or there are no samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{graph.spec.name}.mlpackage"
        model.save(str(package))
        interpreter = load_program(package)
        inputs = _quantizable(interpreter.program, floats, excepted, graph)
        if not inputs:
            return []
        if not samples:
            raise TargetError("int8 activations need calibration, but there are no samples")
        affines = {} if known is None else known
        if new := set(inputs.values()) - set(affines):
            affines.update(_observed(interpreter, new, samples))
    by_weight = {weight: affines[value] for weight, value in inputs.items()}
    from mobilesam_export.backends.coreml import passes

    return [passes.quantize_inputs(by_weight)]


def _observed(
    interpreter: Interpreter, values: Collection[str], samples: Samples
) -> dict[str, Affine]:
    """The best scale and zero point of each value over all samples."""
    observed = {value: Observed() for value in values}

    def observe(_: Operation, value: Value, tensor: Tensor) -> None:
        if value.name in observed:
            observed[value.name].add(tensor)

    for sample in samples:
        interpreter.run(sample, observe)
    return {name: seen.best() for name, seen in observed.items()}


def _affine(low: float, high: float) -> Affine:
    scale = float(np.float16(max(high - low, 1e-4) / (HIGHEST - LOWEST)))  # as the program has it
    return Affine(scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST)))


def _quantizable(
    program: Program, floats: Sequence[str], excepted: Iterable[str], graph: Graph
) -> dict[str, str]:
    """Weight -> input of every convolution that is to take int8."""
    inputs = {
        op.inputs["weight"][0]: op.inputs["x"][0]
        for op in program.operations
        if is_dense(op, program)
    }
    paths, name = names.weight_paths(inputs, graph.module), graph.spec.name
    for pattern in floats:
        if pattern != "*":
            what = f"weight of a convolution of the {name}"
            patterns.check(paths.values(), what, "quantize", "float_inputs", name, pattern)
    for pattern in (*floats, *excepted):
        for weight in [*inputs]:
            if pattern == "*" or patterns.matches(paths.get(weight, ""), pattern):
                del inputs[weight]
    results = {value.name for op in program.operations for value in op.outputs}
    return {weight: value for weight, value in inputs.items() if value in results}
