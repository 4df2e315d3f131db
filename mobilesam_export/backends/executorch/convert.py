"""A graph -> an ExecuTorch program, by executorch's exporter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.executorch.lowering import Lowered
from mobilesam_export.backends.executorch.quantize import quantized
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet_descriptors

METADATA = "metadata"  # a second method of each program, which returns a JSON object


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as a .pte file; see `Backend.convert`."""
    module, recipe = graph.module, conversion.recipe
    with quiet_descriptors():
        try:
            import torch.ao.quantization.fx._decomposed  # noqa: F401 - the calls of Int8Linear

            if recipe.compressed:
                module = quantized(module, recipe, graph.spec.role)
            content = _program(module, graph.example_inputs(), conversion.metadata)
        except Exception as exc:  # whatever torch and executorch raise
            raise ConversionError(
                f"executorch could not convert the {graph.spec.name}: {first_line(exc)}"
            ) from exc
    path.write_bytes(content)


def _program(module: nn.Module, inputs: tuple[Any, ...], metadata: Mapping[str, str]) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from mobilesam_export.backends.executorch import transposes

    lowered_module = Lowered(module)
    with torch.no_grad():
        lowered_module(*inputs)
        exported = torch.export.export(lowered_module, inputs)
    with transposes.cancelled():
        lowered = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
            constant_methods={METADATA: json.dumps(dict(metadata), sort_keys=True)},
        )
        buffer: bytes = lowered.to_executorch().buffer
    return buffer
