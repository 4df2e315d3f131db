"""Rewrites of an exported encoder for ONNX Runtime's CPU kernels, before quantising.

Each but `approximate_gelu` leaves the same function, and `quantize` compares before and after.
What for: a 1x1 convolution beside a change of layout is a matrix product without that change, which
int8 kernels take; windowed attention as one op stays in the cache; three bytes a pixel are moved,
not twelve.
"""

from itertools import product
from typing import TypeGuard

import numpy as np

from mobilesam_export.backends.onnx.graph import GraphEditor, Node, attribute

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
SPLIT_HEADS, SPLIT_KEYS = [0, 2, 1, 3], [0, 2, 3, 1]
ATTENTION_OPSET = 23  # the first with Attention


def move_bytes_first(model: Node) -> Node:
    """Cast, Sub, Transpose of the image -> Transpose, Cast, Sub, with a mean per plane."""
    graph = GraphEditor(model)
    for cast in [node for node in graph.nodes if node.op_type == "Cast"]:
        sub = graph.only_user(cast.output[0], "Sub")
        transpose = None if sub is None else graph.only_user(sub.output[0], "Transpose")
        if sub is None or not _is_transpose(transpose, TO_FIRST):
            continue
        mean = graph.constants[sub.input[1]].reshape(1, -1, 1, 1)
        first, name = transpose.output[0], graph.constant(f"{sub.input[1]}/planes", mean)
        moved, floats = f"{first}/bytes", f"{first}/floats"
        graph.replace(
            transpose,
            [
                graph.make("Transpose", [cast.input[0]], moved, perm=TO_FIRST),
                graph.make("Cast", [moved], floats, to=1),
                graph.make("Sub", [floats, name], first),
            ],
        )
    return graph.finish()


def make_linear(model: Node) -> Node:
    """1x1 convolutions beside a change of layout -> matrix products on channel-last maps."""
    graph = GraphEditor(model)
    for conv in [node for node in graph.nodes if _is_pointwise(graph, node)]:
        before = _is_transpose(graph.producer(conv.input[0]), TO_FIRST)
        after = _is_transpose(graph.only_user(conv.output[0], "Transpose"), TO_LAST)
        if before or after:
            _make_linear(graph, conv)
    _drop_inverse_transposes(graph)
    return graph.finish()


def unfold(model: Node) -> Node:
    """3x3 convolutions between changes of layout -> one matrix product on nine shifted maps.

    ONNX Runtime's ConvInteger is slower than its float32 convolution; its int8 products are not.
    """
    graph = GraphEditor(model)
    for conv in [node for node in graph.nodes if _is_square(graph, node)]:
        first = graph.producer(conv.input[0])
        last = graph.only_user(conv.output[0], "Transpose")
        if _is_transpose(first, TO_FIRST) and _is_transpose(last, TO_LAST):
            _unfold(graph, conv, str(first.input[0]), last)
    return graph.finish()


def approximate_gelu(model: Node, form: str) -> Node:
    """Compute every Gelu by another formula: "tanh" takes 0.7 times the exact one's time."""
    graph = GraphEditor(model)
    for node in [node for node in graph.nodes if node.op_type == "Gelu"]:
        name = node.output[0]
        graph.replace(node, [graph.make("Gelu", node.input, name, approximate=form)])
    return graph.finish()


def fuse_attention(model: Node) -> Node:
    """Split heads, multiply, add the bias, softmax, multiply, join heads -> one Attention."""
    graph = GraphEditor(model)
    for softmax in [node for node in graph.nodes if node.op_type == "Softmax"]:
        _fuse_attention(graph, softmax)
    return graph.finish()


def _is_pointwise(graph: GraphEditor, node: Node) -> bool:
    if node.op_type != "Conv" or node.input[1] not in graph.constants:
        return False
    kernel = graph.constants[node.input[1]].shape
    plain = attribute(node, "group", 1) == 1 and set(attribute(node, "strides", [1])) == {1}
    return kernel[2:] == (1, 1) and plain


def _is_square(graph: GraphEditor, node: Node) -> bool:
    """A 3x3 convolution over all channels whose result is as large as its input, without bias."""
    if node.op_type != "Conv" or node.input[1] not in graph.constants or len(node.input) > 2:
        return False
    plain = attribute(node, "group", 1) == 1 and set(attribute(node, "strides", [1])) == {1}
    padded = attribute(node, "pads") == [1, 1, 1, 1]
    return graph.constants[node.input[1]].shape[2:] == (3, 3) and plain and padded


def _unfold(graph: GraphEditor, conv: Node, source: str, last: Node) -> None:
    """(1, H, W, C) -> (1, H, W, 9 C) x (9 C, C')."""
    weight, output = conv.input[1], last.output[0]
    _, height, width, _ = graph.shapes[output]
    kernel = graph.constants.pop(weight)  # (C', C, rows, columns)
    matrix = kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
    graph.constants[weight] = np.ascontiguousarray(matrix)
    pads = graph.constant(f"{output}/pads", np.array([0, 1, 1, 0, 0, 1, 1, 0]))
    axes = graph.constant(f"{output}/axes", np.array([1, 2]))
    padded, shifted = f"{output}/padded", list[str]()
    nodes = [graph.make("Pad", [source, pads], padded)]
    for row, column in product(range(3), range(3)):
        name = f"{output}/shift{row}{column}"
        starts = graph.constant(f"{name}/starts", np.array([row, column]))
        ends = graph.constant(f"{name}/ends", np.array([row + height, column + width]))
        nodes.append(graph.make("Slice", [padded, starts, ends, axes], name))
        shifted.append(name)
    unfolded = f"{output}/unfolded"
    nodes.append(graph.make("Concat", shifted, unfolded, axis=-1))
    nodes.append(graph.make("MatMul", [unfolded, weight], output))
    graph.replace(conv, [])
    graph.replace(last, nodes)


def _is_transpose(node: Node | None, axes: list[int]) -> TypeGuard[Node]:
    return node is not None and node.op_type == "Transpose" and attribute(node, "perm") == axes


def _make_linear(graph: GraphEditor, conv: Node) -> None:
    weight, output = conv.input[1], conv.output[0]
    matrix = np.ascontiguousarray(graph.constants.pop(weight)[:, :, 0, 0].T)
    graph.constants[weight] = matrix
    last, product = f"{output}/last", f"{output}/product"
    nodes = [
        graph.make("Transpose", [conv.input[0]], last, perm=TO_LAST),
        graph.make("MatMul", [last, weight], product),
    ]
    if len(conv.input) > 2:
        nodes.append(graph.make("Add", [product, conv.input[2]], f"{output}/biased"))
        product = f"{output}/biased"
    nodes.append(graph.make("Transpose", [product], output, perm=TO_FIRST))
    graph.replace(conv, nodes)


def _drop_inverse_transposes(graph: GraphEditor) -> None:
    """Behind a Transpose and its inverse, take what went into the first."""
    for second in [node for node in graph.nodes if node.op_type == "Transpose"]:
        first = graph.producer(second.input[0])
        if first is None or first.op_type != "Transpose":
            continue
        order = [attribute(first, "perm")[axis] for axis in attribute(second, "perm")]
        if order == sorted(order) and second.output[0] not in graph.outputs:
            graph.redirect(second.output[0], first.input[0])


def _fuse_attention(graph: GraphEditor, softmax: Node) -> None:
    add = graph.producer(softmax.input[0])
    scores = None if add is None else graph.producer(add.input[0])
    mixed = graph.only_user(softmax.output[0], "MatMul")
    joined = None if mixed is None else graph.only_user(mixed.output[0], "Transpose")
    flat = None if joined is None else graph.only_user(joined.output[0], "Reshape")
    if add is None or add.op_type != "Add" or scores is None or scores.op_type != "MatMul":
        return
    if mixed is None or joined is None or flat is None or add.input[1] not in graph.constants:
        return
    parts = [
        _split_heads(graph, scores.input[0], SPLIT_HEADS),
        _split_heads(graph, scores.input[1], SPLIT_KEYS),
        _split_heads(graph, mixed.input[1], SPLIT_HEADS),
    ]
    heads = graph.shapes[softmax.output[0]][1]
    tokens = [part for part in parts if part is not None]
    if len(tokens) < len(parts):
        return
    fused = graph.make(
        "Attention",
        [*tokens, add.input[1]],
        joined.output[0],  # heads side by side, which the Reshape after it does not mind
        q_num_heads=heads,
        kv_num_heads=heads,
        scale=1.0,  # it is in the weights of q
    )
    graph.replace(joined, [fused])


def _split_heads(graph: GraphEditor, tensor: str, axes: list[int]) -> str | None:
    """(windows, tokens, C): a tensor before its heads were split; None if they were not."""
    transpose = graph.producer(tensor)
    if not _is_transpose(transpose, axes):
        return None
    reshape = graph.producer(transpose.input[0])
    if reshape is None or reshape.op_type != "Reshape":
        return None
    source = str(reshape.input[0])
    return source if len(graph.shapes[source]) == 3 else None
