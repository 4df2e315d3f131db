"""What is changed in a .tflite file after the converter: names, order, description, metadata.

A file is read into the objects that flatc generates from TFLite's schema, and written again.
"""

import re
from collections import Counter
from typing import Any

import numpy as np

from mobilesam_export.contract import GraphSpec
from mobilesam_export.errors import ConversionError

METADATA_NAME = b"TFLITE_METADATA"
OUTPUT = re.compile(rb"output_(\d+)")  # the converter numbers what a module returns


def read(content: bytes) -> Any:
    """The model in a file, as mutable objects."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    for buffer in model.buffers:
        if isinstance(buffer.data, bytes):  # as ai-edge-quantizer leaves some; written byte by byte
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def write(model: Any) -> bytes:
    """The same model always gives the same bytes."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def with_interface(content: bytes, spec: GraphSpec) -> bytes:
    """Names and order of inputs and outputs as in the contract, and short names for the rest.

    Raises:
        ConversionError: the converter made another interface than it was asked for.
    """
    model = read(content)
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    _shorten_names(graph)
    for item in signature.outputs:
        found = OUTPUT.fullmatch(item.name)
        if found is None or int(found[1]) >= len(spec.outputs):
            raise ConversionError(f"unexpected output {item.name!r} of the {spec.name}")
        item.name = spec.outputs[int(found[1])].name.encode()
    for expected, items, order in (
        (spec.inputs, signature.inputs, "inputs"),
        (spec.outputs, signature.outputs, "outputs"),
    ):
        by_name = {item.name.decode(): item for item in items}
        if set(by_name) != {tensor.name for tensor in expected}:
            raise ConversionError(f"the {spec.name} has {order} {sorted(by_name)}")
        setattr(graph, order, [int(by_name[tensor.name].tensorIndex) for tensor in expected])
        for tensor in expected:
            graph.tensors[by_name[tensor.name].tensorIndex].name = tensor.name.encode()
    graph.name = spec.name.encode()
    return write(model)


def finished(content: bytes, metadata: bytes) -> bytes:
    """The file with its metadata in place of the converter's.

    The converter's min_runtime_version goes, too: it is of the file before quantization.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = read(content)
    model.description = b"mobilesam-export"
    buffer = schema.BufferT()
    buffer.data = list(metadata)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [entry]
    return write(model)


def op_kinds(model: Any) -> dict[int, str]:
    """Names of the ops in a file's table, by their index."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = [max(item.builtinCode, item.deprecatedBuiltinCode) for item in model.operatorCodes]
    return {index: str(names.get(code, code)) for index, code in enumerate(codes)}


def numbers(model: Any, graph: Any, index: int) -> list[int]:
    """What an int32 constant holds, by the index of its tensor."""
    data = model.buffers[graph.tensors[index].buffer].data
    return [int(number) for number in np.frombuffer(bytes(data), np.int32)]


def compact(model: Any) -> None:
    """Remove tensors that no op and no signature has."""
    (graph,) = model.subgraphs
    used = {int(i) for item in graph.operators for i in (*item.inputs, *item.outputs) if i >= 0}
    used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
    places = {old: new for new, old in enumerate(sorted(used))}
    graph.tensors = [graph.tensors[old] for old in sorted(used)]
    for holder in (graph, *graph.operators):
        holder.inputs = [places.get(int(index), -1) for index in holder.inputs]
        holder.outputs = [places[int(index)] for index in holder.outputs]
    for signature in model.signatureDefs or []:
        for item in (*signature.inputs, *signature.outputs):
            item.tensorIndex = places[int(item.tensorIndex)]
    needed = {int(tensor.buffer) for tensor in graph.tensors}
    needed |= {int(item.buffer) for item in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in needed:
            buffer.data = None  # dropped when the file is read again


def _shorten_names(graph: Any) -> None:
    """`module.Class_attribute/...;suffix` -> attributes; numbered where that is not unique."""
    seen: Counter[str] = Counter()
    for tensor in graph.tensors:
        first = tensor.name.decode().partition(";")[0]
        parts = [part.rpartition(".")[2].partition("_")[2] for part in first.split("/")]
        name = "/".join(part for part in parts if part) or first.rpartition(".")[2]
        number = seen[name]
        seen[name] += 1
        tensor.name = (f"{name}:{number}" if number else name).encode()
