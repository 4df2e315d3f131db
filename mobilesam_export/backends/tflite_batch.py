"""Give tensors of fewer than four axes leading axes of 1, for GPU delegates.

The converter drops leading axes of 1, and then tokens or windows stand first, where a delegate
takes them for a batch, and operands of different rank meet, which a delegate aligns wrongly. Here
(windows, tokens, C) becomes (1, windows, tokens, C) again, wherever every op allows that.
"""

from typing import Any

import numpy as np

from mobilesam_export.backends import tflite_file

RANK = 4
# Kinds whose meaning does not change, or is changed with their operands below.
LIFTED = frozenset(
    """
    ADD BATCH_MATMUL CONCATENATION FULLY_CONNECTED GELU MEAN MUL RELU RESHAPE RSQRT SLICE SOFTMAX
    SUB SUM TRANSPOSE
    """.split()  # noqa: SIM905
)


def lift(content: bytes) -> bytes:
    """The same file with four axes wherever there were two or three; inputs and outputs stay."""
    model = tflite_file.read(content)
    (graph,) = model.subgraphs
    kinds = tflite_file.op_kinds(model)
    added = _liftable(model, graph, kinds)
    for index, extra in added.items():
        graph.tensors[index].shape = [1] * extra + [int(s) for s in graph.tensors[index].shape]
    for operator in graph.operators:
        extra = added.get(int(operator.outputs[0]), 0)
        if extra and kinds[operator.opcodeIndex] == "FULLY_CONNECTED":
            operator.builtinOptions.keepNumDims = True
        elif extra:
            _adapt(model, graph, operator, kinds[operator.opcodeIndex], extra)
    return tflite_file.write(model)


def _adapt(model: Any, graph: Any, operator: Any, kind: str, extra: int) -> None:
    """What an op says of axes, in terms of its lifted operands."""

    def replace(place: int, numbers: list[int]) -> None:
        operator.inputs = list(operator.inputs)
        operator.inputs[place] = _constant(model, graph, numbers)

    def numbers(place: int) -> list[int]:
        return _numbers(model, graph, operator.inputs[place])

    options, made = operator.builtinOptions, graph.tensors[operator.outputs[0]]
    if kind == "RESHAPE":
        replace(1, list(made.shape))
        operator.builtinOptions = None  # it repeats the shape
    elif kind == "TRANSPOSE":
        replace(1, [*range(extra), *(place + extra for place in numbers(1))])
    elif kind in ("MEAN", "SUM"):
        replace(1, [axis + extra * (axis >= 0) for axis in numbers(1)])
    elif kind == "SLICE":
        replace(1, [0] * extra + numbers(1))
        replace(2, [int(size) for size in made.shape])
    elif kind == "CONCATENATION":
        options.axis += extra * (options.axis >= 0)


def _liftable(model: Any, graph: Any, kinds: dict[int, str]) -> dict[int, int]:
    """Tensor -> axes to add. An op other than RESHAPE needs four axes of all its operands."""
    computed = {
        index: len(tensor.shape)
        for index, tensor in enumerate(graph.tensors)
        if tensor.shape is not None and model.buffers[tensor.buffer].data is None
    }
    added = {index: RANK - rank for index, rank in computed.items() if rank in (2, 3)}
    for index in (*graph.inputs, *graph.outputs):
        added.pop(int(index), None)
    changed = True
    while changed:
        changed = False
        for operator in graph.operators:
            kind = kinds[operator.opcodeIndex]
            operands = [int(index) for index in (*operator.inputs, *operator.outputs)]
            ours = {index for index in operands if index in added}
            if not ours or kind == "RESHAPE":
                continue
            others = {computed[i] for i in operands if i in computed and i not in added}
            dropped = kind in ("MEAN", "SUM") and not operator.builtinOptions.keepDims
            if kind not in LIFTED or dropped or others - {RANK}:
                for index in ours:
                    del added[index]
                changed = True
    return added


def _numbers(model: Any, graph: Any, index: int) -> list[int]:
    data = model.buffers[graph.tensors[index].buffer].data
    return [int(number) for number in np.frombuffer(bytes(data), np.int32)]


def _constant(model: Any, graph: Any, numbers: list[int]) -> int:
    """A new int32 tensor of these numbers."""
    from ai_edge_litert import schema_py_generated as schema

    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(np.asarray(numbers, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name = f"shape:{len(graph.tensors)}".encode()
    tensor.shape, tensor.type = [len(numbers)], schema.TensorType.INT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
