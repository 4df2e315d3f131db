"""A graph -> a TFLite file, by litert-torch.

The converter takes the channel-last export form as it is. What it has no words for is done to the
file afterwards: names and order of inputs and outputs, types of weights, metadata.
"""

from pathlib import Path
from typing import Any

import torch

from mobilesam_export.backends.compensation import chosen_weights
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.tflite import (
    batch,
    int8,
    metadata,
    model_file,
    names,
    quantize,
    reshapes,
    versions,
)
from mobilesam_export.backends.tflite.lowering import Lowering
from mobilesam_export.backends.tflite.retracing import without_retracing
from mobilesam_export.backends.tflite.settings import TfliteSettings
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet_descriptors


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as a .tflite file; see `Backend.convert`."""
    assert isinstance(conversion.settings, TfliteSettings)
    quantization = conversion.settings.quantization[graph.spec.role]
    for_gpu = conversion.contract.form.layout == "batch-one"
    content = conversion.once(graph.spec.name, lambda: _simplified(graph, for_gpu=for_gpu))
    paths = conversion.once(
        f"{graph.spec.name} paths", lambda: names.weight_paths(content, graph.module)
    )
    known: dict[str, Any] = conversion.once(f"{graph.spec.name} ranges", dict)
    samples = conversion.samples
    if quantization.static and not known:  # of the file as it is, whatever is rounded how
        known.update(int8.find_ranges(content, graph.spec, samples))
    rounded = [
        name
        for name in dict.fromkeys(paths.values())
        if names.compresses(quantization, graph.module, name) and not quantization.excepts(name)
    ]
    chosen = chosen_weights(graph, conversion, rounded)
    content = names.with_weights(content, graph.module, chosen)
    content = quantize.quantize(content, quantization, graph.spec, samples, paths, known)
    content = versions.recomputed(content)
    about = metadata.build(graph.spec, conversion.metadata, conversion.contract)
    files = metadata.associated_files(graph.spec, conversion.metadata)
    path.write_bytes(model_file.finished(content, about) + files)


def _simplified(graph: Graph, *, for_gpu: bool) -> bytes:
    """The float32 file with its interface, before the recipe's numbers."""
    content = model_file.with_interface(_float32(graph, for_gpu=for_gpu), graph.spec)
    content = reshapes.simplify(content)
    return reshapes.simplify(batch.lift(content)) if for_gpu else content


def _float32(graph: Graph, *, for_gpu: bool) -> bytes:
    """What litert-torch makes of the graph; a GPU computes in float16 whatever the file says."""
    names = [spec.name for spec in graph.spec.inputs]
    inputs = dict(zip(names, graph.example_inputs(), strict=True))
    with quiet_descriptors():
        import litert_torch

        try:
            with torch.no_grad(), Lowering(float16=for_gpu), without_retracing():
                model = litert_torch.signature(
                    graph.spec.name, graph.module, sample_kwargs=inputs
                ).convert()
                content: bytes = model.model_content()
        except Exception as exc:  # whatever torch, MLIR and the converter raise
            raise ConversionError(
                f"litert-torch could not convert the {graph.spec.name}: {first_line(exc)}"
            ) from exc
    return content
