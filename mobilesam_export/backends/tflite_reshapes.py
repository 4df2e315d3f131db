"""Take out the RESHAPEs that the converter puts around matrix products.

torch decomposes products of rank-4 tensors, and layers on maps, into products of rank 3 and 2
between reshapes. TFLite's own ops take rank 4. Without the reshapes there is less to copy, and
GPU delegates, which take the first axis for a batch, see a batch of 1.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mobilesam_export.backends import tflite_file

PRODUCTS = ("BATCH_MATMUL", "FULLY_CONNECTED")


def simplify(content: bytes) -> bytes:
    """The same file with fewer RESHAPEs; what it computes stays bit for bit the same."""
    model = tflite_file.read(content)
    (graph,) = model.subgraphs
    kinds = tflite_file.op_kinds(model)
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        if kind in PRODUCTS:
            _widen(graph, kinds, operator, kind)
    while _merge(graph, kinds):
        pass
    _drop_dead(graph)
    tflite_file.compact(model)
    return tflite_file.write(model)


def _producers(graph: Any) -> dict[int, Any]:
    return {int(index): operator for operator in graph.operators for index in operator.outputs}


def _consumers(graph: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for operator in graph.operators:
        for index in operator.inputs:
            found[int(index)].append(operator)
    return found


def _shape(graph: Any, index: int) -> tuple[int, ...]:
    shape = graph.tensors[index].shape
    return () if shape is None else tuple(int(size) for size in shape)


def _widen(graph: Any, kinds: Mapping[int, str], operator: Any, kind: str) -> None:
    """Let one product take what was reshaped for it."""
    (made,) = operator.outputs
    users = _consumers(graph)[int(made)]
    if made in graph.outputs or any(kinds[user.opcodeIndex] != "RESHAPE" for user in users):
        return
    producers = _producers(graph)

    def source(index: int) -> int:
        maker = producers.get(int(index))
        if maker is None or kinds[maker.opcodeIndex] != "RESHAPE":
            return int(index)
        return int(maker.inputs[0])

    if kind == "FULLY_CONNECTED":
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
            for user in _consumers(graph)[after]:
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
