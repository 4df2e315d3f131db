"""A graph -> a Core AI asset, by coreai-torch, on Linux or a Mac."""

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn.utils import parametrize

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreai import compress
from mobilesam_export.backends.coreai.asset import METADATA
from mobilesam_export.backends.coreai.settings import CoreaiSettings
from mobilesam_export.contract import Array
from mobilesam_export.errors import ConversionError, first_line
from mobilesam_export.files import raise_if_full
from mobilesam_export.graphs import Graph, in_float16
from mobilesam_export.quiet import quiet
from mobilesam_export.target import Recipe

PROBE_BYTES = 64_000_000  # more than the largest of ours, the float32 encoder
FIELDS = {"author": "author", "license": "license", "description": "model_description"}


def convert(graph: Graph, conversion: Conversion, path: Path) -> None:
    """Write one graph as an .aimodel folder; see `Backend.convert`."""
    settings = conversion.settings
    assert isinstance(settings, CoreaiSettings)
    try:
        with quiet(), torch.no_grad(), _numbered_graphs():
            program = _program(graph, conversion.recipe)
            _number_tensors(program)
            _save(program, settings, conversion, path)
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as exc:
        raise_if_full(path.parent, PROBE_BYTES)
        raise ConversionError(
            f"coreai-torch could not convert the {graph.spec.name}: {first_line(exc)}"
        ) from exc


def _program(graph: Graph, recipe: Recipe) -> Any:
    """What coreai-torch makes of the graph in the recipe's types."""
    from coreai_torch import TorchConverter, get_decomp_table

    module = graph.module
    if recipe.activations == "float16":
        module = in_float16(module, recipe.keep_float32)
    if recipe.compressed:
        compress.compress(module, recipe, graph.spec.name)
    with parametrize.cached():  # a weight that several operations take is unpacked once
        exported = torch.export.export(module, graph.example_inputs())
    program = exported.run_decompositions(get_decomp_table())
    # RELEASE: without the source code's paths on this machine
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    converter.add_exported_program(
        program,
        input_names=[item.name for item in graph.spec.inputs],
        output_names=[item.name for item in graph.spec.outputs],
    )
    return converter.to_coreai()


def _save(program: Any, settings: CoreaiSettings, conversion: Conversion, path: Path) -> None:
    from coreai.authoring import OSVersion
    from coreai.runtime import AIModelAssetMetadata

    metadata = AIModelAssetMetadata()
    for key, text in conversion.metadata.items():
        if key in FIELDS:
            setattr(metadata, FIELDS[key], text)
        else:
            metadata.set_custom(key, text)
    version = OSVersion(f"v{settings.minimum_os}")
    program.save_asset(path, metadata, minimum_os=version)
    file = path / METADATA
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["creationDate"]  # the same export gives the same bytes
    file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for item in (path, *path.rglob("*")):
        item.chmod(0o755 if item.is_dir() else 0o644)


@contextmanager
def _numbered_graphs() -> Iterator[None]:
    """Number graphs of composite operations, whose names have random ends otherwise."""
    from coreai.authoring import func, graph_builder

    graphs = itertools.count()

    def number(name: str) -> str:
        return f"{name}_{next(graphs)}"

    with (
        mock.patch.object(func, "_randomize_fn_name", number),
        mock.patch.object(graph_builder, "_randomize_fn_name", number),
    ):
        yield


def _number_tensors(program: Any) -> None:
    """Number large tensors, which have names with a hash that differs between processes."""
    from coreai._compiler.ir import DenseResourceElementsAttr, WalkResult

    numbers = itertools.count()

    def visit(operation: Any) -> Any:
        if operation.name == "coreai.constant":
            value = operation.attributes["value"]
            if DenseResourceElementsAttr.isinstance(value):
                name, kind = f"tensor{next(numbers)}", operation.result.type
                operation.attributes["value"] = DenseResourceElementsAttr.get_from_buffer(
                    _bytes(operation), name, kind, context=operation.context
                )
        return WalkResult.ADVANCE

    program._module._mlir_module.operation.walk(visit)


def _bytes(constant: Any) -> Array:
    """The elements of a constant as they are stored, those of less than a byte packed."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import (
        copy_constant_value_to_array,
    )

    kind = constant.result.type
    bits = math.prod(kind.shape) * kind.element_type.width
    elements = np.zeros((bits + 7) // 8, np.uint8)
    copy_constant_value_to_array(constant_op=constant, destination=elements)
    return elements
