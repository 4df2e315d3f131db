"""Give tensors of fewer than four axes leading axes of 1, for GPU delegates.

The converter drops leading axes of 1, and then tokens or windows stand first, where a delegate
takes them for a batch, and operands of different rank meet, which a delegate aligns wrongly. Here
(windows, tokens, C) becomes (1, windows, tokens, C) again, wherever every op allows that. The
interface stays what it is: a RESHAPE stands behind each input and before each output of fewer axes.
"""

import copy
from typing import Any

import numpy as np

from mobilesam_export.backends.tflite import model_file, reshapes

RANK = 4
# Kinds whose meaning does not change, or is changed with their operands below.
LIFTED = frozenset(
    """
    ABS ADD BATCH_MATMUL CONCATENATION COS FULLY_CONNECTED GELU MEAN MUL RELU RESHAPE ROUND RSQRT
    SIN SLICE SOFTMAX SUB SUM TRANSPOSE
    """.split()  # noqa: SIM905
)
ALIGNED = frozenset({"ADD", "CONCATENATION", "MUL", "SUB"})  # their constants need four axes, too


def lift(content: bytes) -> bytes:
    """The same file with four axes wherever there were two or three; inputs and outputs stay."""
    model = model_file.read(content)
    (graph,) = model.subgraphs
    kinds = model_file.op_kinds(model)
    _bridge(model, graph, kinds)
    _keep_axes(model, graph, kinds)
    _as_batch_products(model, graph, kinds)
    added = _liftable(model, graph, kinds)
    for index, extra in added.items():
        graph.tensors[index].shape = [1] * extra + [int(s) for s in graph.tensors[index].shape]
    lifted: dict[int, int] = {}
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        extra = added.get(int(operator.outputs[0]), 0)
        if extra and kind == "FULLY_CONNECTED":
            operator.builtinOptions.keepNumDims = True
        elif extra:
            _adapt(model, graph, operator, kind, extra)
        if kind in ALIGNED and len(graph.tensors[operator.outputs[0]].shape) == RANK:
            _lift_constants(model, graph, operator, lifted)
    model_file.compact(model)
    return model_file.write(model)


def _bridge(model: Any, graph: Any, kinds: dict[int, str]) -> None:
    """Put RESHAPEs between the interface and the ops, so that these can have four axes."""

    def inner_of(index: int) -> int:
        inner = _copy(graph, index, b"/inner")
        for operator in graph.operators:
            for names in ("inputs", "outputs"):
                places = [inner if i == index else int(i) for i in getattr(operator, names)]
                setattr(operator, names, places)
        return inner

    def narrow(indices: Any) -> list[int]:
        return [int(index) for index in indices if len(graph.tensors[index].shape) in (2, 3)]

    for index in narrow(graph.inputs):
        inner = inner_of(index)
        graph.operators.insert(0, _reshape(model, graph, kinds, index, inner))
    for index in narrow(graph.outputs):
        inner = inner_of(index)
        graph.operators.append(_reshape(model, graph, kinds, inner, index))


def _keep_axes(model: Any, graph: Any, kinds: dict[int, str]) -> None:
    """Let the remaining reductions keep the axes that they reduce, as far as a new RESHAPE."""
    for operator in list(graph.operators):
        kind = kinds[operator.opcodeIndex]
        if kind not in reshapes.REDUCTIONS or operator.builtinOptions.keepDims:
            continue
        consumers = reshapes.consumers_of(graph)
        chain, _ = reshapes.scaled(model, graph, kinds, consumers, operator)
        last = chain[-1]
        made = int(last.outputs[0])
        whole = _copy(graph, made, b"/whole")
        last.outputs = [whole]
        reshapes.keep_axes(model, graph, chain)
        place = graph.operators.index(last) + 1
        graph.operators.insert(place, _reshape(model, graph, kinds, whole, made))


def _as_batch_products(model: Any, graph: Any, kinds: dict[int, str]) -> None:
    """Make products of two computed matrices BATCH_MATMULs again.

    The converter turns those without a batch into FULLY_CONNECTED, whose filter has two axes.
    """
    from ai_edge_litert import schema_py_generated as schema

    for operator in list(graph.operators):
        if kinds[operator.opcodeIndex] != "FULLY_CONNECTED":
            continue
        left, right = (int(index) for index in operator.inputs[:2])
        if model.buffers[graph.tensors[right].buffer].data is not None:
            continue
        turned = _copy(graph, right, b"/turned")
        graph.tensors[turned].shape.reverse()
        turn = schema.OperatorT()
        turn.opcodeIndex = _code(model, kinds, "TRANSPOSE")
        turn.inputs, turn.outputs = [right, _constant(model, graph, [1, 0])], [turned]
        graph.operators.insert(graph.operators.index(operator), turn)
        operator.opcodeIndex = _code(model, kinds, "BATCH_MATMUL")
        operator.inputs = [left, turned]
        operator.builtinOptionsType = schema.BuiltinOptions.BatchMatMulOptions
        operator.builtinOptions = schema.BatchMatMulOptionsT()


def _code(model: Any, kinds: dict[int, str], kind: str) -> int:
    """Where the file lists a kind of op; it is added where it is not."""
    from ai_edge_litert import schema_py_generated as schema

    known = [index for index, name in kinds.items() if name == kind]
    if not known:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        model.operatorCodes.append(code)
        known = [len(model.operatorCodes) - 1]
        kinds[known[0]] = kind
    return known[0]


def _reshape(model: Any, graph: Any, kinds: dict[int, str], source: int, made: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex = _code(model, kinds, "RESHAPE")
    shape = _constant(model, graph, [int(size) for size in graph.tensors[made].shape])
    operator.inputs, operator.outputs = [source, shape], [made]
    return operator


def _copy(graph: Any, index: int, suffix: bytes) -> int:
    """A tensor like another, with the same buffer."""
    tensor = copy.copy(graph.tensors[index])
    tensor.name, tensor.shape = tensor.name + suffix, [int(size) for size in tensor.shape]
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _lift_constants(model: Any, graph: Any, operator: Any, lifted: dict[int, int]) -> None:
    """Give an op's constants four axes, single numbers and vectors one; `lifted` has those done."""
    inputs = [int(index) for index in operator.inputs]
    for place, index in enumerate(inputs):
        tensor = graph.tensors[index]
        if model.buffers[tensor.buffer].data is None or len(tensor.shape) in (1, RANK):
            continue
        if index not in lifted:
            lifted[index] = _copy(graph, index, b"/lifted")
            shape = graph.tensors[lifted[index]].shape
            extra = RANK - len(shape) if shape else 1
            graph.tensors[lifted[index]].shape = [1] * extra + shape
        inputs[place] = lifted[index]
    operator.inputs = inputs


def _adapt(model: Any, graph: Any, operator: Any, kind: str, extra: int) -> None:
    """What an op says of axes, in terms of its lifted operands."""

    def replace(place: int, numbers: list[int]) -> None:
        operator.inputs = list(operator.inputs)
        operator.inputs[place] = _constant(model, graph, numbers)

    def numbers(place: int) -> list[int]:
        return model_file.numbers(model, graph, operator.inputs[place])

    options, made = operator.builtinOptions, graph.tensors[operator.outputs[0]]
    if kind == "RESHAPE":
        replace(1, list(made.shape))
        operator.builtinOptions = None  # it repeats the shape
    elif kind == "TRANSPOSE":
        replace(1, [*range(extra), *(place + extra for place in numbers(1))])
    elif kind in reshapes.REDUCTIONS:
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
            if kind not in LIFTED or others - {RANK}:
                for index in ours:
                    del added[index]
                changed = True
    return added


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
