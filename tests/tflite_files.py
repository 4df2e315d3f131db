"""Hand-made TFLite files of a few ops, for tests of what reads or runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.backends.tflite import model_file

Options = tuple[str, dict[str, Any]]
VERSIONS = {"BROADCAST_TO": 2}  # all other kinds have a version 1


@dataclass(frozen=True)
class Op:
    """One op: its kind, the names of its tensors, and fields of its options.

    Attributes:
        kind: as in TFLite's schema, for instance "ADD".
        inputs, outputs: names of tensors.
        options: name of the options' table and its fields; none if there is no table.
    """

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    options: Options | None = None


def make_file(
    path: Path,
    tensors: dict[str, tuple[int, ...] | np.ndarray[Any, Any]],
    ops: Sequence[Op],
    signature: str = "encoder",
) -> Path:
    """Write a file; a tensor is a shape (float32, computed or input) or the array that it holds.

    Inputs are the tensors that no op makes, outputs those that no op takes.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes, graph.tensors, graph.operators = [], [], []
    places = {name: place for place, name in enumerate(tensors)}
    for name, given in tensors.items():
        tensor = schema.TensorT()
        tensor.name, tensor.buffer, tensor.type = name.encode(), 0, schema.TensorType.FLOAT32
        tensor.shape = list(given.shape if isinstance(given, np.ndarray) else given)
        if isinstance(given, np.ndarray):
            tensor.type = getattr(schema.TensorType, given.dtype.name.upper())
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(given.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    for op in ops:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, op.kind)
        code.deprecatedBuiltinCode, code.version = (
            min(code.builtinCode, 127),
            VERSIONS.get(op.kind, 1),
        )
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs = [places[name] for name in op.inputs]
        operator.outputs = [places[name] for name in op.outputs]
        if op.options is not None:
            table, fields = op.options
            operator.builtinOptions = getattr(schema, f"{table}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            for key, value in fields.items():
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)
    made = {name for op in ops for name in op.outputs}
    taken = {name for op in ops for name in op.inputs}
    stored = {name for name, given in tensors.items() if isinstance(given, np.ndarray)}
    inputs = [name for name in tensors if name not in made | stored]
    outputs = [name for name in tensors if name in made - taken]
    graph.inputs, graph.outputs = [places[n] for n in inputs], [places[n] for n in outputs]
    model.signatureDefs = [_signature(schema, signature, inputs, outputs, places)]
    path.write_bytes(model_file.write(model))
    return path


def _signature(
    schema: Any, name: str, inputs: list[str], outputs: list[str], places: dict[str, int]
) -> Any:
    def entries(names: list[str]) -> list[Any]:
        found = []
        for tensor in names:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = tensor.encode(), places[tensor]
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = name.encode(), 0
    signature.inputs, signature.outputs = entries(inputs), entries(outputs)
    return signature
