"""A graph -> a Core ML package (ML Program), by coremltools, on any platform."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import activations, compensation, package, weights
from mobilesam_export.backends.coreml.activations import Affine
from mobilesam_export.backends.coreml.settings import CoremlSettings
from mobilesam_export.backends.coreml.validation import seldom_validated
from mobilesam_export.backends.mlpackage import make_reproducible
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.files import raise_if_full
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet
from mobilesam_export.target import Recipe

PACKAGE_BYTES = 32_000_000  # more than the largest of ours, the float32 encoder


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as an .mlpackage folder; see `Backend.convert`."""
    settings, recipe = conversion.settings, conversion.recipe
    assert isinstance(settings, CoremlSettings)
    try:
        with quiet(), torch.no_grad(), seldom_validated():
            model = conversion.once(
                graph.spec.name, lambda: _converted(graph, conversion, settings)
            )
            model = _in_int8(model, graph, conversion)
            if recipe.calibrate_weights and recipe.weights != "int8":
                grids = weights.grids(model, recipe, graph)
                model = compensation.compensate(model, grids, conversion.samples)
            if recipe.compressed:
                model = weights.compress(model, recipe, graph)
            package.describe(model, graph.spec, conversion.metadata)
            model.save(str(path))
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as exc:
        raise_if_full(path.parent, PACKAGE_BYTES)
        raise ConversionError(
            f"coremltools could not convert the {graph.spec.name}: {first_line(exc)}"
        ) from exc
    make_reproducible(path)


def _in_int8(model: Any, graph: Graph, conversion: Conversion) -> Any:
    """The program with convolutions that take int8 and weights chosen for it, as a recipe says."""
    from mobilesam_export.backends.coreml import passes

    settings, recipe, name = conversion.settings, conversion.recipe, graph.spec.name
    assert isinstance(settings, CoremlSettings)
    changes: list[Any] = []
    if recipe.activations == "int8":
        floats, excepted = settings.float_inputs.get(name, ()), recipe.exceptions.get(name, ())
        known = conversion.once(f"{name} ranges", dict[str, Affine])
        changes += activations.int8_inputs(
            model, floats, graph, conversion.samples, excepted, known
        )
    if recipe.weights == "int8":
        changes += weights.chosen_numbers(model, recipe, graph, conversion)
    return passes.applied(model, *changes)


def _converted(graph: Graph, conversion: Conversion, settings: CoremlSettings) -> Any:
    """The program that coremltools makes of the graph, not compressed."""
    import coremltools as ct

    from mobilesam_export.backends.coreml import passes

    program = torch.export.export(graph.module, graph.example_inputs())
    return ct.convert(
        program.run_decompositions({}),
        inputs=_inputs(graph.spec, conversion.contract),
        outputs=[ct.TensorType(name=s.name, dtype=np.float32) for s in graph.spec.outputs],
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, settings.minimum_deployment_target),
        compute_precision=_precision(conversion.recipe),
        pass_pipeline=passes.pipeline(),
        skip_model_load=True,  # there is nothing to load it with but on a Mac
    )


def _inputs(spec: GraphSpec, contract: Contract) -> list[Any]:
    import coremltools as ct

    if spec.name == "encoder":
        return [
            ct.ImageType(
                name="image",
                shape=(1, 3, *contract.size.shape),
                color_layout=ct.colorlayout.RGB,
            )
        ]
    return [ct.TensorType(name=s.name, shape=s.shape, dtype=np.float32) for s in spec.inputs]


def _precision(recipe: Recipe) -> Any:
    """What coremltools computes in: float32, or float16 but for what leads to `keep_float32`."""
    import coremltools as ct

    if recipe.activations == "float32":
        return ct.precision.FLOAT32
    keep = set(recipe.keep_float32)
    return ct.transform.FP16ComputePrecision(op_selector=lambda op: not _leads_to(op, keep))


def _leads_to(op: Any, kinds: set[str]) -> bool:
    """Whether this operation is of one of `kinds` or its result goes into one."""
    waiting, seen = [op], set()
    while waiting:
        op = waiting.pop()
        if op.op_type in kinds:
            return True
        for output in op.outputs:
            for child in output.child_ops:
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
    return False
