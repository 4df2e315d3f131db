"""TFLite files, by litert-torch, run by LiteRT's interpreter with its XNNPACK delegate.

The converter takes the channel-last export form as it is. What it has no words for is done to the
file afterwards: names and order of inputs and outputs, types of weights, metadata.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.tflite import batch, metadata, model_file, quantize, reshapes
from mobilesam_export.backends.tflite.lowering import Lowering
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import BackendError, ConversionError, TargetError, first_line
from mobilesam_export.graphs import Graph
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.session import Session

SUFFIX = ".tflite"


@dataclass(frozen=True)
class Options:
    """The [convert] table of a target of this backend, which has no keys."""


def parse_options(table: Mapping[str, Any]) -> Options:
    """Check the [convert] table.

    Raises:
        TargetError: it has a key; the graph's form is all that a tflite target chooses.
    """
    if table:
        raise TargetError(f"[convert] of a tflite target takes no keys, found {dict(table)}")
    return Options()


def unavailable() -> str:
    """The interpreter is a dependency: files can always be run."""
    return ""


def runner() -> str:
    """What runs files here."""
    return "LiteRT with XNNPACK"


def versions() -> dict[str, str]:
    """Tools that decide the bytes of a file."""
    names = ("torch", "litert-torch", "litert-converter", "ai-edge-quantizer", "flatbuffers")
    return {name: version(name) for name in names}


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as a .tflite file.

    Raises:
        ConversionError: the converter or the quantizer refused the graph.
        TargetError: the form or the recipe is none of this backend's.
    """
    form = conversion.contract.form
    if conversion.contract.dynamic or form.pixels not in ("uint8", "float32"):
        raise TargetError(
            'a tflite target has pixels = "uint8" or "float32" and prompt = "slots", '
            f"found {form.pixels!r} and {form.prompt!r}"
        )
    quantization = quantize.parse(conversion.recipe, graph.spec.name)
    for_gpu = form.layout == "batch-one"
    content = model_file.with_interface(_float32(graph, for_gpu=for_gpu), graph.spec)
    content = reshapes.simplify(content)
    if for_gpu:
        content = reshapes.simplify(batch.lift(content))
    content = quantize.quantize(content, quantization, graph.spec, conversion.samples)
    about = metadata.build(graph.spec, conversion.metadata, conversion.contract)
    files = metadata.associated_files(graph.spec, conversion.metadata)
    path.write_bytes(model_file.finished(content, about) + files)


def devices() -> dict[str, str]:
    """The interpreter runs on the CPU."""
    return {"cpu": ""}


def load(path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
    """Open a file with the interpreter and its default delegate, XNNPACK.

    Raises:
        BackendError: LiteRT does not load it, its interface is not `spec`, or there is no such
            device here.
    """
    if reason := devices().get(device or "cpu", "no such device"):
        raise BackendError(f"cannot run {path.name} on {device}: {reason}")
    with quiet_descriptors():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
            signatures = interpreter.get_signature_list()
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT cannot load {path}: {first_line(exc)}") from exc
    _check_interface(path, signatures, spec)
    with quiet_descriptors():
        try:
            interpreter.allocate_tensors()
            ask = interpreter.get_signature_runner(spec.name)
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT cannot prepare {path}: {first_line(exc)}") from exc
    _check_shapes(path, {**ask.get_input_details(), **ask.get_output_details()}, spec)

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        try:
            found = ask(**inputs)
        except (ValueError, RuntimeError) as exc:
            raise BackendError(f"LiteRT failed on {path.name}: {first_line(exc)}") from exc
        return {name: np.array(values) for name, values in found.items()}

    return Session(run, f"LiteRT {version('ai-edge-litert')}, XNNPACK, CPU")


def describe(path: Path) -> GraphDescription:
    """What is in a file.

    Raises:
        BundleError: it is damaged or no TFLite file.
    """
    from mobilesam_export.backends.tflite.describe import describe_tflite

    return describe_tflite(path)


def _float32(graph: Graph, *, for_gpu: bool) -> bytes:
    """What litert-torch makes of the graph; a GPU computes in float16 whatever the file says."""
    names = [spec.name for spec in graph.spec.inputs]
    inputs = dict(zip(names, graph.example_inputs(), strict=True))
    with quiet_descriptors():
        import litert_torch

        try:
            with torch.no_grad(), Lowering(float16=for_gpu):
                model = litert_torch.signature(
                    graph.spec.name, graph.module, sample_kwargs=inputs
                ).convert()
                content: bytes = model.model_content()
        except Exception as exc:  # whatever torch, MLIR and the converter raise
            raise ConversionError(
                f"litert-torch could not convert the {graph.spec.name}: {first_line(exc)}"
            ) from exc
    return content


def _check_interface(path: Path, signatures: Mapping[str, Any], spec: GraphSpec) -> None:
    expected = {
        "inputs": sorted(item.name for item in spec.inputs),
        "outputs": sorted(item.name for item in spec.outputs),
    }
    if spec.name not in signatures:
        found = ", ".join(signatures) or "none"
        raise BackendError(
            f"{path} has no signature {spec.name!r} (it has: {found}): it is not the {spec.name} "
            "of a bundle; export it again"
        )
    tensors = {key: sorted(names) for key, names in signatures[spec.name].items()}
    if tensors != expected:
        raise BackendError(f"{path} is not the {spec.name}: its tensors are {tensors}")


def _check_shapes(path: Path, details: Mapping[str, Any], spec: GraphSpec) -> None:
    for item in (*spec.inputs, *spec.outputs):
        found = details[item.name]
        shape, dtype = tuple(map(int, found["shape"])), np.dtype(found["dtype"]).name
        if (shape, dtype) != (tuple(item.shape), item.dtype):
            raise BackendError(
                f"{path} is another {spec.name} than the manifest says: {item.name} is {shape} "
                f"{dtype}, expected {tuple(item.shape)} {item.dtype}; export it again"
            )
