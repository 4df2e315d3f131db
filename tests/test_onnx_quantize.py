"""ONNX in fewer bits, on small graphs: numbers, products, ranges, steps."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, numpy_helper

from mobilesam_export import metrics
from mobilesam_export.backends.onnx import quantize, ranges, rewrite
from mobilesam_export.backends.onnx.graph import Array, GraphEditor
from mobilesam_export.backends.onnx.integer import affine, symmetric
from mobilesam_export.backends.onnx.store import pack_four_bits
from mobilesam_export.contract import Contract
from mobilesam_export.errors import ConversionError
from mobilesam_export.target import load_target

TARGET = load_target("onnx")
CONTRACT = Contract(256, 6, TARGET.graph)
RECIPES = ("w8", "w8-dynamic", "w8a8", "w4")
Sample = dict[str, Array]


def finder(samples: list[Sample]) -> ranges.Finder:
    return ranges.Finder(samples, "minmax", 100)


weights = hnp.arrays(
    np.float32, (8, 6), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


@given(weights)
def test_int8_is_within_half_a_step_of_every_weight(matrix: Array) -> None:
    whole, scales = symmetric(matrix, axis=1)
    assert np.abs(whole * scales - matrix).max() <= scales.max() / 2 + 1e-5
    assert np.all(np.abs(whole.astype(int)) <= 127)


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_uint8_has_zero_exactly_and_reaches_both_ends(low: float, width: float) -> None:
    scale, zero = affine((low, low + width))
    assert 0 <= int(zero) <= 255
    reached = (np.array([0, 255]) - int(zero)) * float(scale)
    assert reached[0] <= min(low, 0) + scale
    assert reached[1] >= max(low + width, 0) - scale


@settings(deadline=None, max_examples=20)
@given(hnp.arrays(np.float32, (32, 3), elements=st.floats(-10, 10, width=32)))
def test_four_bits_are_what_onnx_runtime_reads(matrix: Array) -> None:
    packed, scales = pack_four_bits(matrix, 16)
    whole = np.stack([packed & 15, packed >> 4], axis=-1).reshape(3, 2, 16).astype(np.float32) - 8
    restored = (whole * scales.reshape(3, 2, 1)).reshape(3, 32).T
    steps = np.repeat(np.abs(scales.reshape(3, 2)), 16, axis=1).T
    # A number as large as the largest and of the other sign is one step out of reach.
    assert np.all(np.abs(restored - matrix) <= steps * 1.001 + 1e-6)
    assert run(four_bit_model(matrix), np.eye(32, dtype=np.float32)) == pytest.approx(
        restored, abs=1e-5
    )


def four_bit_model(matrix: Array) -> onnx.ModelProto:
    from mobilesam_export.backends.onnx.store import store_four_bits

    graph = GraphEditor(linear_model(matrix, None, rows=32))
    store_four_bits(graph, graph.nodes[0], pack_four_bits(matrix, 16), 0)
    return graph.finish()


def linear_model(matrix: Array, bias: Array | None, rows: int = 5) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("MatMul", ["x", "weight"], ["y" if bias is None else "p"])]
    constants = [numpy_helper.from_array(matrix, "weight")]
    if bias is not None:
        nodes.append(onnx.helper.make_node("Add", ["p", "bias"], ["y"]))
        constants.append(numpy_helper.from_array(bias, "bias"))
    return make_model(nodes, [rows, matrix.shape[0]], [rows, matrix.shape[1]], constants)


def make_model(
    nodes: list[onnx.NodeProto],
    taken: list[int],
    made: list[int],
    constants: list[onnx.TensorProto],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    x = onnx.helper.make_tensor_value_info("x", kind, taken)
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, made)
    graph = onnx.helper.make_graph(nodes, "made", [x], [y], constants)
    opset = onnx.helper.make_opsetid("", 20)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)


def run(model: onnx.ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    result: Array = session.run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_products_in_int8_are_near_the_float_ones(static: bool, biased: bool) -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(32, 24)).astype(np.float32)
    bias = random.normal(size=24).astype(np.float32) if biased else None
    model, x = linear_model(matrix, bias), random.normal(size=(5, 32)).astype(np.float32)
    samples = [{"x": x}]
    made = quantize.integer_products(
        model, "encoder", ["weight"], finder(samples) if static else None
    )
    assert metrics.psnr_db(run(made, x), run(model, x)) > 35
    kinds = {node.op_type for node in made.graph.node}
    assert ("QuantizeLinear" in kinds) == static
    assert ("DynamicQuantizeLinear" in kinds) == (not static)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_a_product_whose_weight_is_an_exception_stays_float(kind: str) -> None:
    model = linear_model(np.ones((4, 2), np.float32), None)
    excepted = {"weight": kind}
    made = quantize.integer_products(model, "encoder", ["weight"], None, excepted)
    assert [node.op_type for node in made.graph.node] == ["MatMul"]


def test_an_output_without_weights_is_its_bias() -> None:
    matrix = np.ones((4, 2), np.float32)
    matrix[:, 1] = 0
    model = linear_model(matrix, np.array([0.25, 0.5], np.float32))
    sample = {"x": np.ones((5, 4), np.float32)}
    made = quantize.integer_products(model, "encoder", ["weight"], finder([sample]))
    assert run(made, sample["x"]) == pytest.approx(run(model, sample["x"]), rel=0.02)


def test_layers_that_take_parts_of_one_tensor_share_its_whole_range() -> None:
    nodes = [
        onnx.helper.make_node("Slice", ["x", "zero", "two", "zero"], ["small"]),
        onnx.helper.make_node("Slice", ["x", "two", "four", "zero"], ["large"]),
        onnx.helper.make_node("MatMul", ["small", "weight"], ["a"]),
        onnx.helper.make_node("MatMul", ["large", "other"], ["b"]),
        onnx.helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    constants = [
        *(numpy_helper.from_array(np.eye(3, dtype=np.float32), n) for n in ("weight", "other")),
        *(
            numpy_helper.from_array(np.array([i]), n)
            for n, i in {"zero": 0, "two": 2, "four": 4}.items()
        ),
    ]
    model = make_model(nodes, [4, 3], [2, 3], constants)
    x = np.repeat(np.array([1, 1, 50, 50], np.float32), 3).reshape(4, 3)
    made = quantize.integer_products(model, "encoder", ["weight", "other"], finder([{"x": x}]))
    assert run(made, x) == pytest.approx(run(model, x), rel=0.02)


@pytest.mark.parametrize("static", [True, False])
def test_padding_moves_with_the_bytes_and_stays_zero(static: bool) -> None:
    """Pad and Transpose before a product are done on bytes, where zero is the zero point."""
    random = np.random.default_rng(1)
    matrix = random.normal(size=(6, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Pad", ["x", "pads"], ["padded"]),
        onnx.helper.make_node("Transpose", ["padded"], ["turned"], perm=[1, 0, 2]),
        onnx.helper.make_node("MatMul", ["turned", "weight"], ["y"]),
    ]
    pads = numpy_helper.from_array(np.array([0, 0, 0, 2, 1, 0]), "pads")
    constants = [pads, numpy_helper.from_array(matrix, "weight")]
    model = make_model(nodes, [3, 2, 6], [3, 5, 4], constants)
    x = random.uniform(1, 5, (3, 2, 6)).astype(np.float32)
    samples = [{"x": x}]
    made = quantize.integer_products(
        model, "encoder", ["weight"], finder(samples) if static else None
    )
    kinds = [node.op_type for node in made.graph.node]
    quantizer = "QuantizeLinear" if static else "DynamicQuantizeLinear"
    assert kinds.index(quantizer) < kinds.index("Pad") < kinds.index("Transpose")
    found, expected = run(made, x), run(model, x)
    assert np.all(found[:, 3:] == 0)
    assert metrics.psnr_db(found, expected) > 35


def test_shifted_maps_are_cut_out_of_bytes_that_are_quantised_once() -> None:
    """A convolution unfolded into Pad, Slices and Concat quantises its input, not nine copies."""
    random = np.random.default_rng(4)
    kernel = random.normal(size=(4, 6, 3, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["first", "weight"], ["conv"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Transpose", ["conv"], ["y"], perm=[0, 2, 3, 1]),
    ]
    constants = [numpy_helper.from_array(kernel, "weight")]
    model = make_model(nodes, [1, 7, 5, 6], [1, 7, 5, 4], constants)
    x = random.uniform(1, 5, (1, 7, 5, 6)).astype(np.float32)
    unfolded = rewrite.unfold(model)
    assert run(unfolded, x) == pytest.approx(run(model, x), abs=1e-5)
    made = quantize.integer_products(unfolded, "encoder", ["weight"], None)
    kinds = Counter(node.op_type for node in made.graph.node)
    assert (kinds["DynamicQuantizeLinear"], kinds["Pad"], kinds["Slice"]) == (1, 1, 9)
    assert metrics.psnr_db(run(made, x), run(model, x)) > 35


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_ranges_hold_what_was_seen_and_leave_out_what_is_rare(method: str) -> None:
    random = np.random.default_rng(2)
    model = linear_model(np.eye(64, dtype=np.float32), None, rows=400)
    values = random.normal(size=(400, 64)).astype(np.float32)
    values[0, 0] = 100
    samples: list[Sample] = [{"x": values}, {"x": values / 2}]
    low, high = ranges.find_ranges(model, ["x"], samples, method, 99.9)["x"]
    assert values.min() <= low < -1
    if method == "minmax":
        assert (low, high) == (values.min(), 100)
    else:
        assert 1 < high < 50


@pytest.mark.parametrize("part", [1.0, 0.3])
def test_least_squared_error_keeps_what_values_fill(part: float) -> None:
    values = np.linspace(-part, 10 * part, 5000, dtype=np.float32)
    low, high = ranges._least_error((-1.0, 10.0), values)
    assert (low, high) == pytest.approx((-part, 10 * part))


def test_a_step_that_changes_the_graph_is_named() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    model.graph.output[0].name = model.graph.node[0].output[0] = "image_embeddings"

    def damage(before: onnx.ModelProto) -> onnx.ModelProto:
        after = onnx.ModelProto()
        after.CopyFrom(before)
        after.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(np.diag([1, 1, 1, 0.9]).astype(np.float32), "weight")
        )
        return after

    steps = [("turning", lambda m: m, 100.0), ("simplifying", damage, 100.0)]
    sample = {"x": np.ones((5, 4), np.float32)}
    with pytest.raises(ConversionError, match="encoder: simplifying changed what it computes"):
        quantize.run_steps(model, "encoder", steps, [sample])


def test_a_step_that_breaks_the_graph_is_named() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    model.graph.output[0].name = model.graph.node[0].output[0] = "image_embeddings"

    def break_it(before: onnx.ModelProto) -> onnx.ModelProto:
        after = onnx.ModelProto()
        after.CopyFrom(before)
        after.graph.node[0].op_type = "Gemm3"
        return after

    sample = {"x": np.ones((5, 4), np.float32)}
    with pytest.raises(ConversionError, match="encoder: fusing left a graph that does not run"):
        quantize.run_steps(model, "encoder", [("fusing", break_it, 100.0)], [sample])


def test_weights_in_seven_bits_never_exceed_what_kernels_add_in_sixteen() -> None:
    random = np.random.default_rng(3)
    matrix = random.normal(size=(32, 24)).astype(np.float32)
    model, sample = linear_model(matrix, None), {"x": np.ones((5, 32), np.float32)}
    made = quantize.integer_products(model, "encoder", ["weight"], finder([sample]))
    (whole,) = (
        numpy_helper.to_array(item) for item in made.graph.initializer if item.name == "weight/int8"
    )
    assert 2 * 255 * int(np.abs(whole).max()) < 2**15


def test_ranges_are_found_once_for_each_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    find = ranges.find_ranges

    def counted(model: onnx.ModelProto, names: list[str], *how: Any) -> dict[str, ranges.Range]:
        asked.extend(names)
        return find(model, names, *how)

    monkeypatch.setattr(ranges, "find_ranges", counted)
    model, once = (
        linear_model(np.eye(4, dtype=np.float32), None),
        finder([{"x": np.ones((5, 4), np.float32)}]),
    )
    for names in (["x"], ["x"], ["x", "y"]):
        once.find(model, names)
    assert asked == ["x", "y"]
