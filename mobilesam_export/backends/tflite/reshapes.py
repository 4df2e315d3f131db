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
    # What an op's result is made by, and who takes it: widening changes only inputs of ops before.
    makers, takers = _producers(graph), consumers(graph)
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        if kind in PRODUCTS:
            _widen(graph, kinds, makers, takers, operator)
        elif kind in REDUCTIONS and not operator.builtinOptions.keepDims:
            chain, users = scaled(model, graph, kinds, takers, operator)
            if users and all(kinds[user.opcodeIndex] == "RESHAPE" for user in users):
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
    takers: Mapping[int, list[Any]],
    operator: Any,
) -> tuple[list[Any], list[Any]]:
    """A reduction and the ops behind it with a single number each; who takes what they make."""
    chain = [operator]
    while True:
        (made,) = chain[-1].outputs
        users = takers.get(int(made), [])
        if len(users) != 1 or kinds[users[0].opcodeIndex] not in ("ADD", "MUL", "SUB"):
            return chain, users
        tensors = [graph.tensors[index] for index in users[0].inputs]
        constants = [tensor for tensor in tensors if model.buffers[tensor.buffer].data is not None]
        if len(constants) != 1 or math.prod(constants[0].shape) != 1:
            return chain, users
        chain.append(users[0])


def keep_axes(model: Any, graph: Any, chain: Sequence[Any]) -> None:
    """Let the reduction at the head of a chain from `scaled` keep its axes."""
    reduction = chain[0]
    shape = [int(size) for size in graph.tensors[reduction.inputs[0]].shape]
    for axis in model_file.numbers(model, graph, reduction.inputs[1]):
        shape[axis] = 1
    reduction.builtinOptions.keepDims = True
    for operator in chain:
        graph.tensors[operator.outputs[0]].shape = list(shape)


def _producers(graph: Any) -> dict[int, Any]:
    return {int(index): operator for operator in graph.operators for index in operator.outputs}


def consumers(graph: Any) -> dict[int, list[Any]]:
    """Ops by the index of each tensor that they take."""
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
    makers: Mapping[int, Any],
    takers: Mapping[int, list[Any]],
    operator: Any,
) -> None:
    """Let one product take what was reshaped for it."""
    (made,) = operator.outputs
    users = takers.get(int(made), [])
    if made in graph.outputs or any(kinds[user.opcodeIndex] != "RESHAPE" for user in users):
        return

    def source(index: int) -> int:
        maker = makers.get(int(index))
        if maker is None or kinds[maker.opcodeIndex] != "RESHAPE":
            return int(index)
        return int(maker.inputs[0])

    if kinds[operator.opcodeIndex] == "FULLY_CONNECTED":
        first = source(operator.inputs[0])
        before, rows = _shape(graph, first), _shape(graph, int(operator.inputs[0]))
        if before[-1:] != rows[-1:]:
            return
        operator.inputs[0] = first
        operator.builtinOptions.keepNumDims = True
        graph.tensors[made].shape = [*before[:-1], _shape(graph, int(made))[-1]]
        return
    x, y = (source(index) for index in operator.inputs[:2])
    left, right = _shape(graph, x), _shape(graph, y)
    flat = [_shape(graph, int(index)) for index in operator.inputs[:2]]
    if not (len(left) == len(right) == 4 and left[:2] == right[:2]):
        return
    if any(a != (math.prod(b[:2]), *b[2:]) for a, b in zip(flat, (left, right), strict=True)):
        return
    operator.inputs = [x, y]
    graph.tensors[made].shape = [*left[:2], *_shape(graph, int(made))[1:]]


def _merge(graph: Any, kinds: Mapping[int, str]) -> bool:
    """One round: skip RESHAPEs of RESHAPEs, and those that change nothing."""
    producers, changed = _producers(graph), False
    for operator in graph.operators:
        if kinds[operator.opcodeIndex] != "RESHAPE":
            continue
        maker = producers.get(int(operator.inputs[0]))
        if maker is not None and kinds[maker.opcodeIndex] == "RESHAPE":
            operator.inputs[0], changed = int(maker.inputs[0]), True
        before, after = int(operator.inputs[0]), int(operator.outputs[0])
        if _shape(graph, before) == _shape(graph, after) and after not in graph.outputs:
            for user in consumers(graph)[after]:
                user.inputs = [before if index == after else int(index) for index in user.inputs]
                changed = True
    return changed


def _drop_dead(graph: Any) -> None:
    """Ops whose results nobody takes."""
    needed = {int(index) for index in graph.outputs}
    kept = []
    for operator in reversed(graph.operators):
        if needed & {int(index) for index in operator.outputs}:
            needed |= {int(index) for index in operator.inputs}
            kept.append(operator)
    graph.operators = kept[::-1]
