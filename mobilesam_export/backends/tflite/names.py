"""Which weight of the export form each op of a .tflite file computes with.

The converter calls an op after the modules whose `forward` was called, which is part of a path and
not always unique. So a weight is known by its elements first: a float32 file has them as the module
does, in TFLite's order of axes. Only if the converter has scaled them, the op's name decides.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from mobilesam_export.backends.tflite import model_file
from mobilesam_export.backends.tflite.int8 import KINDS, Quantization
from mobilesam_export.contract import Array
from mobilesam_export.graphs import names

# Axes of TFLite's weights in torch's order: matrices, (out, in, rows, columns), depthwise and
# transposed kernels.
ORDERS: dict[int, list[tuple[int, ...]]] = {
    2: [(0, 1), (1, 0)],
    3: [(0, 1, 2), (0, 2, 1)],
    4: [(0, 2, 3, 1), (1, 2, 3, 0)],
}


def weight_paths(content: bytes, module: nn.Module) -> dict[str, str]:
    """By the first output of each op with a weight, the weight's name in the module.

    Args:
        content: a float32 file made of the module.
        module: in export form.
    """
    model = model_file.read(content)
    (graph,) = model.subgraphs
    kinds = model_file.op_kinds(model)
    known, paths = _digests(module), dict[str, str]()
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode()
        digests = [_constant_digest(model, graph, index) for index in operator.inputs if index >= 0]
        found = [known[digest].name for digest in digests if digest in known]
        if not found and any(digests) and kinds[operator.opcodeIndex] in KINDS:
            found = _by_name(name, [stored.name for stored in known.values()])
        if found:
            paths[name] = found[0]
    return paths


def _by_name(name: str, paths: Iterable[str]) -> list[str]:
    """The one weight whose path has all parts of an op's name, in order and the last one last."""
    parts = name.partition(":")[0].split("/")

    def has_parts(path: str) -> bool:
        modules = path.split(".")[:-1]
        rest = iter(modules)
        return modules[-1:] == parts[-1:] and all(part in rest for part in parts)

    fitting = list(dict.fromkeys(path for path in paths if has_parts(path)))
    return fitting if len(fitting) == 1 else []


def with_weights(content: bytes, module: nn.Module, values: Mapping[str, Array]) -> bytes:
    """The file with other numbers in some weights.

    Args:
        content: a float32 file made of the module.
        module: in export form.
        values: by the name of a weight, float32 of the module's shape. One that the converter has
            scaled stays as it is.
    """
    if not values:
        return content
    model, known = model_file.read(content), _digests(module)
    (graph,) = model.subgraphs
    for index, tensor in enumerate(graph.tensors):
        stored = known.get(_constant_digest(model, graph, index))
        if stored is not None and stored.name in values:
            moved = np.ascontiguousarray(values[stored.name].transpose(stored.order), np.float32)
            model.buffers[tensor.buffer].data = np.frombuffer(moved.tobytes(), np.uint8)
    return model_file.write(model)


class Stored(NamedTuple):
    """A weight of the module, and the order of its axes in the file."""

    name: str
    order: tuple[int, ...]


def _digests(module: nn.Module) -> dict[bytes, Stored]:
    found: dict[bytes, Stored] = {}
    for name, tensor in names.weights(module).items():
        values = tensor.detach().numpy()
        for order in ORDERS.get(values.ndim, []):
            found.setdefault(_digest(values.transpose(order)), Stored(name, order))
    return found


def _constant_digest(model: Any, graph: Any, index: int) -> bytes:
    """Of a float32 constant with two or more axes; empty for any other tensor."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type != schema.TensorType.FLOAT32 or len(tensor.shape) < 2:
        return b""
    return _digest(np.frombuffer(bytes(data), np.float32))


def _digest(values: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes()).digest()


def compresses(quantization: Quantization, module: nn.Module, name: str) -> bool:
    """Whether a weight of the export form is held by an op that is quantised.

    A 1x1 convolution is a CONV_2D or, in tiled forms, a linear layer.
    """
    kind = kind_of(module.get_submodule(name.rpartition(".")[0]))
    if not kind:  # a table that is added, such as the bias of attention
        return quantization.sums
    return kind in (*quantization.int8, *quantization.stored)


def kind_of(layer: nn.Module) -> str:
    """TFLite's name of the op that a layer becomes; "" if it is none with a weight."""
    if isinstance(layer, nn.Linear):
        return "FULLY_CONNECTED"
    if isinstance(layer, nn.ConvTranspose2d):
        return "TRANSPOSE_CONV"
    if isinstance(layer, nn.Conv2d):
        return "CONV_2D" if layer.groups == 1 else "DEPTHWISE_CONV_2D"
    return ""
