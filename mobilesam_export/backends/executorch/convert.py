"""A graph -> an ExecuTorch program, by executorch's exporter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.executorch import delegates
from mobilesam_export.backends.executorch.lowering import Lowered
from mobilesam_export.backends.executorch.quantize import quantized
from mobilesam_export.backends.executorch.settings import ExecutorchSettings
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.graphs import Graph
from mobilesam_export.quiet import quiet_descriptors

METADATA = "metadata"  # a second method of each program, which returns a JSON object


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as a .pte file; see `Backend.convert`."""
    module, recipe, settings = graph.module, conversion.recipe, conversion.settings
    assert isinstance(settings, ExecutorchSettings)
    with quiet_descriptors():
        try:
            import torch.ao.quantization.fx._decomposed  # noqa: F401 - the calls of Int8Linear

            half = recipe.activations == "float16"
            partitioner = delegates.partitioner(settings.delegate, half=half)
            if recipe.compressed:
                module = quantized(module, recipe, graph.spec.role)
            exported = _exported(module, graph.example_inputs(), settings.delegate)
            with delegates.lowering(settings.delegate, exported):
                content = _program(exported, partitioner, conversion.metadata)
        except ConversionError:
            raise
        except Exception as exc:  # whatever torch and executorch raise
            raise ConversionError(
                f"executorch could not convert the {graph.spec.name} for its "
                f"{delegates.DELEGATES[settings.delegate].name} delegate: {first_line(exc)}"
            ) from exc
    path.write_bytes(content)


def _exported(module: nn.Module, inputs: tuple[Any, ...], delegate: str) -> Any:
    """The traced graph; what XNNPACK does not take is replaced, the others take it."""
    module = Lowered(module) if delegate == "xnnpack" else module
    with torch.no_grad():
        module(*inputs)
        return torch.export.export(module, inputs)


def _program(exported: Any, partitioner: Any, metadata: Mapping[str, str]) -> bytes:
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        exported,
        partitioner=[partitioner],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
        constant_methods={METADATA: json.dumps(dict(metadata), sort_keys=True)},
    )
    buffer: bytes = lowered.to_executorch().buffer
    return buffer
