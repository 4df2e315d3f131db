"""Counting and liveness on graphs that are worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.backends.coreml.dialect import DIALECT as ML_PROGRAM
from mobilesam_export.backends.onnx.dialect import DIALECT as ONNX
from mobilesam_export.inspection.graph import Dialect, GraphDescription, Node, Tensor
from mobilesam_export.inspection.macs import count_macs
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.inspection.report import inspect_graph
from mobilesam_export.inspection.text import render

Shape = tuple[int | None, ...]


def activation(name: str, shape: Shape | None, dtype: str = "float16") -> Tensor:
    return Tensor(name, dtype, shape)


def weight(shape: Shape, dtype: str = "float16") -> Tensor:
    return Tensor("weight", dtype, shape, constant=True)


def node(kind: str, output: Shape | None, **inputs: Tensor) -> Node:
    return Node(kind, {k: (t,) for k, t in inputs.items()}, (activation("out", output),))


def step(name: str, size: int, *takes: Tensor) -> Node:
    """An op `relu` that makes `size` bytes out of other values."""
    return Node("relu", {"x": takes}, (activation(name, (size,), "int8"),))


def graph(
    inputs: tuple[Tensor, ...], nodes: tuple[Node, ...], *outputs: Tensor
) -> GraphDescription:
    return GraphDescription(Path("made.up"), "hand-made", ML_PROGRAM, inputs, outputs, nodes, ())


def dialect(made: Node) -> Dialect:
    """ONNX writes kinds with a capital."""
    return ONNX if made.kind[0].isupper() else ML_PROGRAM


X = activation("x", (1, 8, 6, 6))
MACS = {
    # 1*16*3*3 outputs, each of 8 channels x 3 x 3
    "conv": (node("conv", (1, 16, 3, 3), x=X, weight=weight((16, 8, 3, 3))), 144 * 72),
    "depthwise": (node("conv", (1, 8, 6, 6), x=X, weight=weight((8, 1, 3, 3))), 288 * 9),
    "ONNX conv": (node("Conv", (1, 16, 3, 3), X=X, W=weight((16, 8, 3, 3))), 144 * 72),
    # 1*8*6*6 inputs, each to 4 channels x 2 x 2
    "transposed": (node("conv_transpose", (1, 4, 12, 12), x=X, weight=weight((8, 4, 2, 2))), 4608),
    "ONNX transposed": (node("ConvTranspose", (1, 4, 12, 12), X=X, W=weight((8, 4, 2, 2))), 4608),
    "linear": (node("linear", (2, 5), x=activation("x", (2, 7)), weight=weight((5, 7))), 70),
    "Gemm, both transposed": (
        node("Gemm", (2, 5), A=activation("a", (7, 2)), B=weight((5, 7))),
        70,
    ),
    "matmul": (
        node("matmul", (3, 2, 5), x=activation("x", (3, 2, 7)), y=activation("y", (3, 7, 5))),
        210,
    ),
    "einsum": (
        Node(
            "einsum",
            {"values": (activation("a", (1, 4, 3, 7)), activation("b", (1, 7, 3, 5)))},
            (activation("out", (1, 4, 3, 5)),),
            {"equation": "nchw,nwhu->nchu"},
        ),
        4 * 3 * 5 * 7,
    ),
    "matmul, x transposed": (
        node("matmul", (3, 2, 5), x=activation("x", (3, 7, 2)), y=activation("y", (3, 7, 5))),
        210,
    ),
    "broadcast": (
        node("MatMul", (3, 4, 2, 5), A=activation("a", (4, 2, 7)), B=activation("b", (3, 1, 7, 5))),
        3 * 4 * 2 * 5 * 7,
    ),
    "vector on the left": (
        node("matmul", (5,), x=activation("x", (7,)), y=activation("y", (7, 5))),
        35,
    ),
    "vector on the right": (
        node("matmul", (2,), x=activation("x", (2, 7)), y=activation("y", (7,))),
        14,
    ),
    # 3 heads of 2 queries and 5 keys: scores of 4 products each, then sums of 5 for 6 columns
    "attention": (
        node(
            "scaled_dot_product_attention",
            (1, 3, 2, 6),
            query=activation("q", (1, 3, 2, 4)),
            key=activation("k", (1, 3, 5, 4)),
            value=activation("v", (1, 3, 5, 6)),
        ),
        3 * 2 * 5 * 4 + 3 * 2 * 6 * 5,
    ),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_worked_out_by_hand(name: str) -> None:
    made, expected = MACS[name]
    counted = count_macs((made,), dialect(made))
    assert (counted.total, counted.by_kind) == (expected, {made.kind: expected})
    assert counted.uncounted == ()


def test_macs_add_up_by_kind() -> None:
    conv, linear = MACS["conv"][0], MACS["linear"][0]
    counted = count_macs((conv, linear, conv, node("relu", (1, 8, 6, 6), x=X)), ML_PROGRAM)
    assert counted.by_kind == {"conv": 2 * 144 * 72, "linear": 70}
    assert counted.total == 2 * 144 * 72 + 70


@pytest.mark.parametrize(
    "made",
    [
        node("einsum", (2, 5), x=X),  # no `values`
        node("lstm", (2, 5), x=X),
        node("conv", (1, 16, None, 3), x=X, weight=weight((16, 8, 3, 3))),
        node("conv", None, x=X, weight=weight((16, 8, 3, 3))),
        node("MatMul", (2, None), A=activation("a", (2, 7)), B=activation("b", (7, None))),
        node("matmul", (2, 5), x=activation("a", None), y=activation("b", (7, 5))),
        node("linear", (2, 5), x=X),
    ],
)
def test_what_cannot_be_counted_is_named(made: Node) -> None:
    counted = count_macs((made,), dialect(made))
    assert (counted.total, counted.uncounted) == (0, ("out",))


def test_a_chain_holds_two_neighbours_and_the_caller_s_input() -> None:
    image = activation("image", (10,), "int8")
    a = step("a", 40, image)
    b = step("b", 50, *a.outputs)
    c = step("c", 5, *b.outputs)
    peak = find_peak(graph((image,), (a, b, c), *c.outputs))
    assert peak.bytes == 10 + 40 + 50
    assert peak.node is b
    assert [tensor.name for tensor in peak.live] == ["b", "a", "image"]
    assert peak.unknown == 0


def test_a_residual_is_held_until_it_is_added() -> None:
    image = activation("image", (10,), "int8")
    a = step("a", 40, image)
    b = step("b", 50, *a.outputs)
    c = step("c", 45, *b.outputs)
    added = step("added", 40, *c.outputs, *a.outputs)
    peak = find_peak(graph((image,), (a, b, c, added), *added.outputs))
    assert peak.bytes == 10 + 40 + 50 + 45  # without the residual it would be 10 + 45 + 50
    assert peak.node is c
    assert {tensor.name for tensor in peak.live} == {"image", "a", "b", "c"}


def test_an_output_of_the_graph_is_held_to_the_end() -> None:
    image = activation("image", (10,), "int8")
    early = step("early", 100, image)
    a = step("a", 20, image)
    b = step("b", 20, *a.outputs)
    nodes = (early, a, b)
    assert find_peak(graph((image,), nodes, *early.outputs, *b.outputs)).bytes == 150
    assert find_peak(graph((image,), nodes, *b.outputs)).bytes == 110


def test_a_result_that_nobody_takes_is_held_while_it_is_made() -> None:
    image = activation("image", (10,), "int8")
    unused = step("unused", 70, image)
    a = step("a", 60, image)
    assert find_peak(graph((image,), (unused, a), *a.outputs)).bytes == 80


@given(st.data())
@settings(max_examples=100)
def test_the_peak_is_that_of_a_slower_way_to_find_it(data: st.DataObject) -> None:
    """At each op: what was made by then and is still needed, counted anew."""
    sizes = st.integers(0, 50)
    image = activation("image", (data.draw(sizes),), "int8")
    made = [image]
    nodes: list[Node] = []
    for index in range(data.draw(st.integers(1, 8))):
        takes = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
        nodes.append(step(f"v{index}", data.draw(sizes), *takes))
        made.extend(nodes[-1].outputs)
    outputs = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=2))
    held = []
    for index, running in enumerate(nodes):
        later = {t.name for node in nodes[index:] for t in node.operands()}
        kept = later | {t.name for t in (image, *outputs, *running.outputs)}
        held.append(sum(t.size_bytes or 0 for t in made[: index + 2] if t.name in kept))
    peak = find_peak(graph((image,), tuple(nodes), *outputs))
    assert peak.bytes == max(held)
    assert peak.node is nodes[held.index(max(held))]
    assert peak.bytes == sum(tensor.size_bytes or 0 for tensor in peak.live)


def test_weights_are_no_activations() -> None:
    conv = node("conv", (1, 16, 3, 3), x=X, weight=weight((16, 8, 3, 3)))
    assert find_peak(graph((X,), (conv,), *conv.outputs)).bytes == 2 * (288 + 144)


def test_sizes_that_are_not_known_are_said_to_be_missing() -> None:
    image = activation("image", (None, 10), "int8")
    a = step("a", 40, image)
    report = inspect_graph(graph((image,), (a,), *a.outputs))
    assert (report.peak_bytes, report.peak_unknown) == (40, 1)
    assert [tensor.name for tensor in report.dynamic] == ["image"]
    shown = render(report)
    assert "at least 40 bytes" in shown
    assert "1 tensors of dynamic size are not in it" in shown
    assert "image int8 (?, 10)" in shown


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float16", 30), ("float32", 60), ("bool", 15), ("uint4", 8), ("int4", 8), ("uint1", 2)],
)
def test_bytes_of_fifteen_elements(dtype: str, size: int) -> None:
    assert activation("x", (3, 5), dtype).size_bytes == size


def test_a_string_has_no_size() -> None:
    assert activation("x", (), "string").size_bytes is None


def test_a_report_counts_ops_ranks_axes_and_weights() -> None:
    narrow = activation("narrow", (1, 2, 3, 4, 5))
    moved = Node("reshape", {"x": (X,)}, (narrow,))
    back = Node("transpose", {"x": (narrow,)}, (activation("back", (99, 2)),))
    made = replace(
        graph((X,), (moved, back, step("a", 4, narrow)), narrow),
        constants=(weight((16, 8, 3, 3)), weight((3, 5), "uint4"), weight((), "string")),
    )
    report = inspect_graph(made)
    assert report.ops == {"reshape": 1, "transpose": 1, "relu": 1}
    assert report.data_movement == {"reshape": 1, "transpose": 1}
    assert report.largest_rank is not None
    assert report.largest_rank.name == "narrow"
    assert report.largest_axis is not None
    assert report.largest_axis.shape == (99, 2)
    assert report.weights_bytes == {"float16": 2304, "uint4": 8}
    assert report.residency is None
    assert "Neural Engine" not in render(report)
