"""Take out the RESHAPEs that the converter puts around matrix products and behind reductions.

torch decomposes products of rank-4 tensors, and layers on maps, into products of rank 3 and 2
between reshapes, and a mean that keeps its axes into one that does not and a reshape. TFLite's own
ops take rank 4 and keep axes. Without the reshapes there is less to copy, and GPU delegates, which
take the first axis for a batch, see a batch of 1.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mobilesam_export.backends.tflite import model_file

PRODUCTS = ("BATCH_MATMUL", "FULLY_CONNECTED")
REDUCTIONS = ("MEAN", "SUM")


def simplify(content: bytes) -> bytes:
    """The same file with fewer RESHAPEs; what it computes stays bit for bit the same."""
    model = model_file.read(content)
    (graph,) = model.subgraphs
    kinds = model_file.op_kinds(model)
    # One map of each for all ops: widening changes only inputs of ops before.
    producers, consumers = producers_of(graph), consumers_of(graph)
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        if kind in PRODUCTS:
            _widen(graph, kinds, producers, consumers, operator)
        elif kind in REDUCTIONS and not operator.builtinOptions.keepDims:
            chain, after = scaled(model, graph, kinds, consumers, operator)
            if after and all(kinds[op.opcodeIndex] == "RESHAPE" for op in after):
                keep_axes(model, graph, chain)
    while _merge(graph, kinds):
        pass
    _drop_dead(graph)
    model_file.compact(model)
    return model_file.write(model)


def scaled(
    model: Any,
    graph: Any,
    kinds: Mapping[int, str],
    consumers: Mapping[int, list[Any]],
    operator: Any,
) -> tuple[list[Any], list[Any]]:
    """A reduction and the ops behind it with a scalar each, and the consumers of their result."""
    chain = [operator]
    while True:
        (result,) = chain[-1].outputs
        after = consumers.get(int(result), [])
        if len(after) != 1 or kinds[after[0].opcodeIndex] not in ("ADD", "MUL", "SUB"):
            return chain, after
        tensors = [graph.tensors[index] for index in after[0].inputs]
        constants = [tensor for tensor in tensors if model.buffers[tensor.buffer].data is not None]
        if len(constants) != 1 or math.prod(constants[0].shape) != 1:
            return chain, after
        chain.append(after[0])


def keep_axes(model: Any, graph: Any, chain: Sequence[Any]) -> None:
    """Let the reduction at the head of a chain from `scaled` keep its axes."""
    reduction = chain[0]
    shape = [int(size) for size in graph.tensors[reduction.inputs[0]].shape]
    for axis in model_file.numbers(model, graph, reduction.inputs[1]):
        shape[axis] = 1
    reduction.builtinOptions.keepDims = True
    for operator in chain:
        graph.tensors[operator.outputs[0]].shape = list(shape)


def producers_of(graph: Any) -> dict[int, Any]:
    """The op that computes each tensor, by the tensor's index."""
    return {int(index): operator for operator in graph.operators for index in operator.outputs}


def consumers_of(graph: Any) -> dict[int, list[Any]]:
    """The ops that take each tensor, by the tensor's index."""
    found: dict[int, list[Any]] = defaultdict(list)
    for operator in graph.operators:
        for index in operator.inputs:
            found[int(index)].append(operator)
    return found


def _shape(graph: Any, index: int) -> tuple[int, ...]:
    shape = graph.tensors[index].shape
    return () if shape is None else tuple(int(size) for size in shape)


def _widen(
    graph: Any,
    kinds: Mapping[int, str],
    producers: Mapping[int, Any],
    consumers: Mapping[int, list[Any]],
    operator: Any,
) -> None:
    """Let one product take what was reshaped for it."""
    (result,) = operator.outputs
    after = consumers.get(int(result), [])
    if result in graph.outputs or any(kinds[op.opcodeIndex] != "RESHAPE" for op in after):
        return

    def source(index: int) -> int:
        producer = producers.get(int(index))
        if producer is None or kinds[producer.opcodeIndex] != "RESHAPE":
            return int(index)
        return int(producer.inputs[0])

    if kinds[operator.opcodeIndex] == "FULLY_CONNECTED":
        first = source(operator.inputs[0])
        before, rows = _shape(graph, first), _shape(graph, int(operator.inputs[0]))
        if before[-1:] != rows[-1:]:
            return
        operator.inputs[0] = first
        operator.builtinOptions.keepNumDims = True
        graph.tensors[result].shape = [*before[:-1], _shape(graph, int(result))[-1]]
        return
    x, y = (source(index) for index in operator.inputs[:2])
    left, right = _shape(graph, x), _shape(graph, y)
    flat = [_shape(graph, int(index)) for index in operator.inputs[:2]]
    if not (len(left) == len(right) == 4 and left[:2] == right[:2]):
        return
    if any(a != (math.prod(b[:2]), *b[2:]) for a, b in zip(flat, (left, right), strict=True)):
        return
    operator.inputs = [x, y]
    graph.tensors[result].shape = [*left[:2], *_shape(graph, int(result))[1:]]


def _merge(graph: Any, kinds: Mapping[int, str]) -> bool:
    """One round: skip RESHAPEs of RESHAPEs, and those that change nothing."""
    producers, changed = producers_of(graph), False
    for operator in graph.operators:
        if kinds[operator.opcodeIndex] != "RESHAPE":
            continue
        producer = producers.get(int(operator.inputs[0]))
        if producer is not None and kinds[producer.opcodeIndex] == "RESHAPE":
            operator.inputs[0], changed = int(producer.inputs[0]), True
        before, after = int(operator.inputs[0]), int(operator.outputs[0])
        if _shape(graph, before) == _shape(graph, after) and after not in graph.outputs:
            for consumer in consumers_of(graph)[after]:
                consumer.inputs = [before if i == after else int(i) for i in consumer.inputs]
                changed = True
    return changed


def _drop_dead(graph: Any) -> None:
    """Remove ops without a consumer."""
    needed = {int(index) for index in graph.outputs}
    kept = []
    for operator in reversed(graph.operators):
        if needed & {int(index) for index in operator.outputs}:
            needed |= {int(index) for index in operator.inputs}
            kept.append(operator)
    graph.operators = kept[::-1]
