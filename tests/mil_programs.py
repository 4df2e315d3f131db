"""What the tests of the evaluator share: write a program, save it, run it, compare its outputs.

In: a function that calls coremltools' builder, or a torch module. Out: a saved .mlpackage, or
what the evaluator computes from it. Every program goes through its files.
"""

import gc
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mobilesam_export.mil import load_program
from mobilesam_export.quiet import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb

__all__ = [
    "Array",
    "Build",
    "Var",
    "booleans",
    "check",
    "convert",
    "ct",
    "few",
    "mb",
    "one_line",
    "random",
    "run",
    "same_pads",
    "save",
    "tensors",
    "traced",
]

# ct.convert collects garbage, which takes 0.2 s where torch is loaded, unless that is set aside.
gc.freeze()

Array = NDArray[Any]
Var = Any  # what coremltools and protobuf hand over is untyped
Build = Callable[..., Var]
TYPES = {"float32": ct.converters.mil.mil.types.fp32, "int32": ct.converters.mil.mil.types.int32}
TYPES |= {"float16": ct.converters.mil.mil.types.fp16, "bool": ct.converters.mil.mil.types.bool}

few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
booleans = st.booleans()


def save(path: Path, build: Build, inputs: dict[str, Array], target: str = "iOS17") -> Path:
    """Write a package of what `build` makes of its inputs with coremltools' builder, unoptimised.

    The parameters of `build` have the names of the inputs.
    """
    system = getattr(ct.target, target)
    with quiet():
        specs = [mb.TensorSpec(x.shape, dtype=TYPES[str(x.dtype)]) for x in inputs.values()]
        program = mb.program(input_specs=specs, opset_version=system)(build)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=system,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def run(
    build: Build, inputs: dict[str, Array], target: str = "iOS17", mode: str = "float32"
) -> list[Array]:
    """Save, read back, run: the outputs in order."""
    with tempfile.TemporaryDirectory() as folder:
        evaluator = load_program(save(Path(folder) / "m.mlpackage", build, inputs, target), mode)
        outputs = evaluator.run(inputs)
        return [outputs[name] for name in evaluator.program.outputs]


def check(build: Build, expected: Var, target: str = "iOS17", **inputs: Array) -> None:
    """The evaluator's outputs agree with the expected array, or list of arrays, to 1e-5."""
    found = run(build, inputs, target)
    wanted = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(wanted)
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        name = f"output {place}"
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-5, err_msg=name)
        assert one.shape == np.shape(other), name


def traced(module: torch.nn.Module, *examples: Array) -> Var:
    """A module as TorchScript, which coremltools converts."""
    inputs = tuple(tensors(*examples))
    with torch.no_grad():
        # torch.jit.trace has no annotations
        return torch.jit.trace(module.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]


def convert(path: Path, module: torch.nn.Module, *examples: Array, **options: Var) -> Path:
    """Write the package that coremltools makes of a torch module, with all its optimisations."""
    chosen = {
        "minimum_deployment_target": ct.target.iOS17,
        "compute_precision": ct.precision.FLOAT32,
        "inputs": [ct.TensorType(name=f"x{i}", shape=x.shape) for i, x in enumerate(examples)],
        **options,
    }
    with quiet():
        script = traced(module, *examples)
        model = ct.convert(script, convert_to="mlprogram", skip_model_load=True, **chosen)
        model.save(str(path))
    return path


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensors(*arrays: Array) -> list[torch.Tensor]:
    """The same numbers for torch."""
    return [torch.from_numpy(array) for array in arrays]


def same_pads(size: int, window: int, stride: int, lower: bool) -> tuple[int, int]:
    """What pad_type "same" puts before and after an axis; an odd one goes first if `lower`."""
    outputs = math.ceil(size / stride)
    total = max(0, (outputs - 1) * stride + window - size)
    less, more = total // 2, math.ceil(total / 2)
    return (more, less) if lower else (less, more)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    """The message, which has no second line."""
    text = str(error.value)
    assert "\n" not in text
    return text
