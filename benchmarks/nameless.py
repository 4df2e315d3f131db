"""Exported files without the names in them, so that a change of names alone can be told apart.

Names of nodes, values and tensors inside a graph are replaced by their order, and texts that only
people read are dropped. Operations, their attributes, weights, inputs and outputs stay.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def contents(path: Path) -> bytes:
    """Everything in an encoder or decoder file that decides what it computes.

    Raises:
        ValueError: the suffix is not .onnx, .tflite or .mlpackage.
    """
    for suffix, reader in ((".onnx", _onnx), (".tflite", _tflite), (".mlpackage", _mlpackage)):
        if path.suffix == suffix:
            return reader(path)
    raise ValueError(f"{path}: expected a .onnx, .tflite or .mlpackage file")


class _Numbered:
    """Names -> their order of appearance; interface names stay."""

    def __init__(self, interface: Iterable[str]) -> None:
        self._names = {"": ""} | {name: name for name in interface}

    def __call__(self, name: str) -> str:
        return self._names.setdefault(name, f"#{len(self._names)}")


def _onnx(path: Path) -> bytes:
    import onnx

    model = onnx.load(path)
    graph = model.graph
    number = _Numbered(value.name for value in (*graph.input, *graph.output))
    for node in graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
    for item in graph.initializer:
        item.name, item.doc_string = number(item.name), ""
    tensors = sorted(graph.initializer, key=lambda item: item.name)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for message in (model, graph, *graph.input, *graph.output):
        message.doc_string = ""
        message.ClearField("metadata_props")
    graph.name = ""
    return bytes(model.SerializeToString(deterministic=True))


def _tflite(path: Path) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    for entry in model.metadata or []:
        model.buffers[entry.buffer].data = None
    model.metadata, model.description = [], b""
    for graph in model.subgraphs:
        graph.name = b""
        for tensor in graph.tensors:
            tensor.name = b""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _mlpackage(path: Path) -> bytes:
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    data = path / "Data" / "com.apple.CoreML"
    model.ParseFromString((data / "model.mlmodel").read_bytes())
    model.description.ClearField("metadata")
    for feature in (*model.description.input, *model.description.output):
        feature.shortDescription = ""
    program = model.mlProgram
    program.docString = ""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            number = _Numbered([*(value.name for value in function.inputs), *block.outputs])
            for operation in block.operations:
                _rename(operation, number)
    weights = (data / "weights" / "weight.bin").read_bytes()
    return bytes(model.SerializeToString(deterministic=True)) + weights


def _rename(operation: Any, number: _Numbered) -> None:  # noqa: ANN401 a protobuf message
    operation.attributes.pop("name", None)
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                binding.name = number(binding.name)
    for output in operation.outputs:
        output.name = number(output.name)
