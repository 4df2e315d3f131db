"""Core ML packages (ML Programs), by coremltools, run by Core ML or by our evaluator.

coremltools converts on any platform, but Core ML itself is part of macOS. Elsewhere the evaluator
runs what was saved, which proves the program, but nothing about the kernels of any one chip.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import activations, compensation, observe, package, weights
from mobilesam_export.contract import Array, Contract, GraphSpec
from mobilesam_export.errors import BackendError, ConversionError, TargetError, first_line
from mobilesam_export.graphs import Graph
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.quiet import quiet
from mobilesam_export.session import Session
from mobilesam_export.target import Recipe

SUFFIX = ".mlpackage"
PACKAGE_BYTES = 32_000_000  # more than the largest of ours, the float32 encoder
# Core ML's compute units by our name; see coremltools.ComputeUnit.
COMPUTE_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ne": "CPU_AND_NE"}
DEPLOYMENT_TARGETS = ("iOS16", "iOS17", "iOS18")


@dataclass(frozen=True)
class Options:
    """The [convert] table of a target of this backend."""

    minimum_deployment_target: str


def parse_options(table: Mapping[str, Any]) -> Options:
    """Check the [convert] table.

    Raises:
        TargetError: an unknown key, or a system that the packages are not made for.
    """
    if set(table) != {"minimum_deployment_target"}:
        raise TargetError(
            "[convert] of a coreml target takes minimum_deployment_target = NAME, "
            f"found {dict(table)}"
        )
    if table["minimum_deployment_target"] not in DEPLOYMENT_TARGETS:
        raise TargetError(
            f"minimum_deployment_target is {table['minimum_deployment_target']!r}; "
            f"expected one of: {', '.join(DEPLOYMENT_TARGETS)}"
        )
    return Options(table["minimum_deployment_target"])


def unavailable() -> str:
    """Packages can be run anywhere: by Core ML on a Mac, by the evaluator elsewhere."""
    return ""


def runner() -> str:
    """What runs packages here."""
    return "Core ML" if platform.system() == "Darwin" else "the evaluator of ML Programs"


def evaluated() -> str:
    """Why packages are run by the evaluator here, and what that is; "" on a Mac."""
    if platform.system() == "Darwin":
        return ""
    return (
        "Core ML is part of macOS and not here; the files were run by this project's evaluator of "
        "ML Programs, which reads the saved packages and computes them operation by operation, "
        "rounded to the types that they declare, without a claim about any one chip"
    )


def versions() -> dict[str, str]:
    """Tools that decide the bytes of a package."""
    return {name: version(name) for name in ("torch", "coremltools", "scikit-learn")}


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as an .mlpackage folder.

    Raises:
        ConversionError: torch or coremltools refused the graph.
        TargetError: the recipe is none of this backend's.
    """
    contract, recipe = conversion.contract, conversion.recipe
    if contract.dynamic or contract.form.pixels != "image":
        raise TargetError('a coreml target has pixels = "image" and prompt = "slots"')
    if contract.form.attention == "sdpa" and not _has_sdpa(conversion.options):
        raise TargetError(
            'attention = "sdpa" needs minimum_deployment_target = "iOS18", '
            f"found {conversion.options.minimum_deployment_target!r}"
        )
    with quiet():
        import coremltools as ct

        from mobilesam_export.backends.coreml import passes
    ios = getattr(ct.target, conversion.options.minimum_deployment_target)
    try:
        with quiet(), torch.no_grad():
            precision = _checked_precision(recipe)
            program = torch.export.export(graph.module, _example_inputs(graph, contract))
            model = ct.convert(
                program.run_decompositions({}),
                inputs=_inputs(graph.spec, contract),
                outputs=[ct.TensorType(name=s.name, dtype=np.float32) for s in graph.spec.outputs],
                convert_to="mlprogram",
                minimum_deployment_target=ios,
                compute_precision=precision,
                pass_pipeline=passes.pipeline(),
                skip_model_load=True,  # there is nothing to load it with but on a Mac
            )
            if recipe.activations == "int8":
                name, samples = graph.spec.name, conversion.samples
                model = activations.quantize_activations(model, recipe, name, samples)
            elif recipe.calibrated:
                grids = weights.grids(model, recipe, graph.spec.name)
                model = compensation.compensate(model, grids, conversion.samples)
            if recipe.compressed:
                model = weights.compress(model, recipe, graph.spec.name)
            package.describe(model, graph.spec, conversion.metadata)
            model.save(str(path))
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as exc:
        _raise_if_full(path.parent)
        raise ConversionError(
            f"coremltools could not convert the {graph.spec.name}: {first_line(exc)}"
        ) from exc
    package.make_reproducible(path)


def devices() -> dict[str, str]:
    """Core ML's compute units. The evaluator is none: its times say nothing of Core ML's."""
    reason = "" if platform.system() == "Darwin" else "Core ML needs macOS"
    return dict.fromkeys(COMPUTE_UNITS, reason)


def load(path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
    """Open a package with Core ML on a Mac, elsewhere with the evaluator if any device will do.

    Core ML chooses its threads by itself: `threads` is ignored.

    Raises:
        BackendError: it cannot be loaded or run, or there is no such device here.
        BundleError: it is damaged.
    """
    if device and (reason := devices().get(device, "no such device")):
        raise BackendError(f"cannot run {path.name} on {device}: {reason}")
    if platform.system() != "Darwin":
        return load_evaluator(path)
    return _load_core_ml(path, spec, device or "all")


def describe(path: Path) -> GraphDescription:
    """What is in a package, and where the Neural Engine's rules place each op.

    Raises:
        BundleError: it is damaged. BackendError: it is no ML Program of iOS 16 to 18.
    """
    from mobilesam_export.backends.coreml.describe import describe_package

    return describe_package(path)


def load_evaluator(path: Path) -> Session:
    """Open a package with the evaluator, which rounds as the package declares its types.

    Raises:
        BackendError: an operation is unknown. BundleError: the package is damaged.
    """
    from mobilesam_export.mil import load_program

    evaluator = load_program(path, mode="float16")
    declared = {value.dtype for op in evaluator.program.operations for value in op.outputs}
    precision = "float16" if "float16" in declared else "float32"
    return Session(
        evaluator.run,
        f"evaluator, {precision}",
        largest=partial(observe.largest_activation, evaluator),
        observe=partial(observe.observe, evaluator),
    )


def _load_core_ml(path: Path, spec: GraphSpec, device: str) -> Session:
    with quiet():
        import coremltools as ct
    from PIL import Image

    try:
        units = ct.ComputeUnit[COMPUTE_UNITS[device]]
        model = ct.models.MLModel(str(path), compute_units=units)
    except Exception as exc:  # Core ML's errors come as bare exceptions
        raise BackendError(f"Core ML cannot load {path}: {exc}") from exc

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        values: dict[str, Any] = dict(inputs)
        if "image" in values:
            values["image"] = Image.fromarray(np.asarray(values["image"][0], np.uint8))
        try:
            outputs = model.predict(values)
        except Exception as exc:  # as above
            raise BackendError(f"Core ML failed on {path.name}: {exc}") from exc
        return {item.name: np.asarray(outputs[item.name]) for item in spec.outputs}

    return Session(run, f"Core ML on macOS {platform.mac_ver()[0]}, {device}")


def _has_sdpa(options: Options) -> bool:
    return options.minimum_deployment_target == "iOS18"


def _raise_if_full(folder: Path) -> None:
    """Raise the OSError that coremltools' writer in C++ hides, if there is one.

    Raises:
        OSError: the disk, or a limit on it, has no room for what a package takes.
    """
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PACKAGE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _example_inputs(graph: Graph, contract: Contract) -> tuple[torch.Tensor, ...]:
    if graph.spec.name == "decoder":
        return graph.example_inputs()
    # Core ML turns its image input into this before the program sees it.
    return (torch.zeros(1, 3, contract.image_size, contract.image_size),)


def _inputs(spec: GraphSpec, contract: Contract) -> list[Any]:
    import coremltools as ct

    side = contract.image_size
    if spec.name == "encoder":
        return [
            ct.ImageType(
                name="image",
                shape=(1, 3, side, side),
                color_layout=ct.colorlayout.RGB,
            )
        ]
    return [ct.TensorType(name=s.name, shape=s.shape, dtype=np.float32) for s in spec.inputs]


def _checked_precision(recipe: Recipe) -> Any:
    """The precision to convert in, of a recipe without a mistake that shows before a conversion."""
    precision = _precision(recipe)
    if recipe.activations == "int8":
        activations.parse(recipe.quantize)
    if recipe.compressed:
        weights.check(recipe)
    return precision


def _precision(recipe: Recipe) -> Any:
    import coremltools as ct

    kinds = (recipe.weights, recipe.activations)
    if kinds == ("float32", "float32"):
        return ct.precision.FLOAT32
    compressed = recipe.compressed and kinds[1] == "float16"
    if not compressed and kinds not in (("float16", "float16"), ("int8", "int8")):
        raise TargetError(
            "a coreml recipe has float32, float16 or int8 for both weights and activations, "
            f"or compressed weights and float16 activations; found {' and '.join(kinds)}"
        )
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
