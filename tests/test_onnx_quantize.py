"""ONNX recipes in fewer bits: numbers, rewrites, parity after each step, what is in the files."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, numpy_helper

from mobilesam_export import calibration, verify
from mobilesam_export.backends import onnx as backend
from mobilesam_export.backends import onnx_quantize, onnx_ranges, onnx_rewrite, reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.onnx_graph import Array, GraphEditor, attribute
from mobilesam_export.backends.onnx_integer import affine, symmetric
from mobilesam_export.backends.onnx_store import pack_four_bits
from mobilesam_export.contract import Contract
from mobilesam_export.errors import ConversionError, TargetError
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.seeded import seeded_state_dict
from mobilesam_export.target import Recipe, load_target

TARGET = load_target("onnx")
CONTRACT = Contract(256, 6, TARGET.graph)
RECIPES = ("w8", "w8-dynamic", "w8a8", "w4")
Sample = dict[str, Array]

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
    from mobilesam_export.backends.onnx_store import store_four_bits

    graph = GraphEditor(linear_model(matrix, None, rows=32))
    store_four_bits(graph, graph.nodes[0], 16, 0)
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
    how = onnx_quantize.Settings(integer={"encoder": ["weight"]})
    samples = [{"x": x}] if static else None
    made = onnx_quantize.integer_products(model, "encoder", ["weight"], how, samples)
    assert verify.psnr_db(run(made, x), run(model, x)) > 35
    kinds = {node.op_type for node in made.graph.node}
    assert ("QuantizeLinear" in kinds) == static
    assert ("DynamicQuantizeLinear" in kinds) == (not static)


def test_an_output_without_weights_is_its_bias() -> None:
    matrix = np.ones((4, 2), np.float32)
    matrix[:, 1] = 0
    model = linear_model(matrix, np.array([0.25, 0.5], np.float32))
    sample, how = {"x": np.ones((5, 4), np.float32)}, onnx_quantize.Settings()
    made = onnx_quantize.integer_products(model, "encoder", ["weight"], how, [sample])
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
    how = onnx_quantize.Settings()
    made = onnx_quantize.integer_products(model, "encoder", ["weight", "other"], how, [{"x": x}])
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
    how = onnx_quantize.Settings()
    samples = [{"x": x}] if static else None
    made = onnx_quantize.integer_products(model, "encoder", ["weight"], how, samples)
    kinds = [node.op_type for node in made.graph.node]
    quantizer = "QuantizeLinear" if static else "DynamicQuantizeLinear"
    assert kinds.index(quantizer) < kinds.index("Pad") < kinds.index("Transpose")
    found, expected = run(made, x), run(model, x)
    assert np.all(found[:, 3:] == 0)
    assert verify.psnr_db(found, expected) > 35


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
    unfolded = onnx_rewrite.unfold(model)
    assert run(unfolded, x) == pytest.approx(run(model, x), abs=1e-5)
    settings = onnx_quantize.Settings()
    made = onnx_quantize.integer_products(unfolded, "encoder", ["weight"], settings, None)
    kinds = Counter(node.op_type for node in made.graph.node)
    assert (kinds["DynamicQuantizeLinear"], kinds["Pad"], kinds["Slice"]) == (1, 1, 9)
    assert verify.psnr_db(run(made, x), run(model, x)) > 35


@pytest.mark.parametrize("method", onnx_ranges.METHODS)
def test_ranges_hold_what_was_seen_and_leave_out_what_is_rare(method: str) -> None:
    random = np.random.default_rng(2)
    model = linear_model(np.eye(64, dtype=np.float32), None, rows=400)
    values = random.normal(size=(400, 64)).astype(np.float32)
    values[0, 0] = 100
    samples: list[Sample] = [{"x": values}, {"x": values / 2}]
    low, high = onnx_ranges.find_ranges(model, ["x"], samples, method, 99.9)["x"]
    assert values.min() <= low < -1
    if method == "minmax":
        assert (low, high) == (values.min(), 100)
    else:
        assert 1 < high < 50


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
        onnx_quantize.run_steps(model, "encoder", steps, [sample])


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
        onnx_quantize.run_steps(model, "encoder", [("fusing", break_it, 100.0)], [sample])


@cache
def graphs() -> tuple[Graph, Graph]:
    return split_graphs(build_sam(seeded_state_dict(0), 256), CONTRACT)


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    sessions = reference.load(build_sam(seeded_state_dict(0), 256), CONTRACT)
    random = np.random.default_rng(0)
    encoder = {"image": random.integers(0, 256, (1, 256, 256, 3)).astype(np.uint8)}
    embeddings = sessions[0].run(encoder)["image_embeddings"]
    prompt = calibration.random_prompts(random, 200, 256, 6)[0]
    from mobilesam_export.prompts import decoder_inputs

    decoder = decoder_inputs(prompt, embeddings, (200, 256), CONTRACT)
    return {"encoder": [encoder], "decoder": [decoder]}


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The encoder of seeded weights as torch exports it, for the opset that has Attention."""
    path = tmp_path_factory.mktemp("float32") / "encoder.onnx"
    options = backend.parse_options({"opset": 23})
    metadata = {"version": "0", "description": "test"}
    conversion = Conversion(options, TARGET.recipes["float32"], CONTRACT, metadata)
    backend.convert(graphs()[0], conversion, path)
    return onnx.load(path)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    float32: onnx.ModelProto,
    samples: dict[str, list[Sample]],
) -> Callable[[str], Path]:
    """The encoder quantised, once for each recipe."""
    folder = tmp_path_factory.mktemp("recipes")

    @cache
    def make(name: str) -> Path:
        recipe, given = TARGET.recipes[name], samples["encoder"]
        model = onnx_quantize.quantize(float32, "encoder", recipe, given, given)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    return make


# The sizes that the issue asks for at 1024 hold at every size: nothing of an encoder grows with it.
@pytest.mark.parametrize(
    ("name", "megabytes"), [("w8", 8.5), ("w8-dynamic", 8.5), ("w8a8", 8.5), ("w4", 5.5)]
)
def test_encoders_are_within_their_size(
    made: Callable[[str], Path], name: str, megabytes: float
) -> None:
    assert made(name).stat().st_size <= megabytes * 1e6


@pytest.mark.parametrize("name", RECIPES)
def test_encoders_compute_what_pytorch_computes(
    made: Callable[[str], Path], samples: dict[str, list[Sample]], name: str
) -> None:
    session = backend.load(made(name), CONTRACT.encoder)
    found = session.run(samples["encoder"][0])["image_embeddings"]
    sam = build_sam(seeded_state_dict(0), 256)
    expected = reference.load(sam, CONTRACT)[0].run(samples["encoder"][0])["image_embeddings"]
    least = {"w8": 35, "w8-dynamic": 25, "w8a8": 25, "w4": 15}  # untrained weights bear less
    assert verify.psnr_db(found, expected) >= least[name]


def test_every_linear_layer_is_computed_in_int8(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    """None is passed over as by a list of MatMul after MatMul and Add have become Gemm."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(made("w8a8"), options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    # 60 in blocks, the neck's 3x3 convolution unfolded, and six 1x1 convolutions made linear, of
    # which body.2.4 stays float32
    assert kinds["QGemm"] + kinds["MatMulIntegerToFloat"] == 66
    assert kinds["Attention"] == 10


def test_rewrites_are_exact_each_on_its_own(
    float32: onnx.ModelProto, samples: dict[str, list[Sample]]
) -> None:
    (expected,) = onnx_ranges.observe(float32, ["image_embeddings"], samples["encoder"])
    kinds = [node.op_type for node in float32.graph.node]
    for rewrite in (
        onnx_rewrite.move_bytes_first,
        onnx_rewrite.unfold,
        onnx_rewrite.make_linear,
        onnx_rewrite.fuse_attention,
    ):
        rewritten = rewrite(float32)
        assert [node.op_type for node in rewritten.graph.node] != kinds
        (found,) = onnx_ranges.observe(rewritten, ["image_embeddings"], samples["encoder"])
        assert verify.psnr_db(*(item["image_embeddings"] for item in (found, expected))) > 110


def test_tanh_gelu_takes_the_place_of_every_exact_one(
    float32: onnx.ModelProto, samples: dict[str, list[Sample]]
) -> None:
    approximate = onnx_rewrite.approximate_gelu(float32, "tanh")
    forms = {
        attribute(node, "approximate") for node in approximate.graph.node if node.op_type == "Gelu"
    }
    assert forms == {b"tanh"}
    (expected,) = onnx_ranges.observe(float32, ["image_embeddings"], samples["encoder"])
    (found,) = onnx_ranges.observe(approximate, ["image_embeddings"], samples["encoder"])
    psnr_db = verify.psnr_db(*(item["image_embeddings"] for item in (found, expected)))
    assert onnx_quantize.GELU_PSNR_DB < psnr_db < 100


def test_weights_in_seven_bits_never_exceed_what_kernels_add_in_sixteen() -> None:
    random = np.random.default_rng(3)
    matrix = random.normal(size=(32, 24)).astype(np.float32)
    settings = onnx_quantize.Settings()
    model, sample = linear_model(matrix, None), {"x": np.ones((5, 32), np.float32)}
    made = onnx_quantize.integer_products(model, "encoder", ["weight"], settings, [sample])
    (whole,) = (
        numpy_helper.to_array(item) for item in made.graph.initializer if item.name == "weight/int8"
    )
    assert 2 * 255 * int(np.abs(whole).max()) < 2**15


@pytest.mark.parametrize("name", ["w8", "w8-dynamic", "w4"])
def test_stored_weights_are_restored_once_when_a_file_is_loaded(
    made: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """DequantizeLinear would stay, run each time and keep operators from their fast layouts."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(made(name), options)
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["DequantizeLinear"] == 0
    constants = {item.name for item in graph.initializer}
    assert not [n for n in graph.node if n.op_type in ("Cast", "Mul") and {*n.input} <= constants]


W8A8 = TARGET.recipes["w8a8"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantize": {"speed": 1}}, "unknown key 'speed'"),
        ({"quantize": {"ranges": "best"}}, "ranges: minmax"),
        ({"quantize": {"percentile": 5}}, "percentile"),
        ({"quantize": {"rewrite": 1}}, "rewrite"),
        ({"quantize": {"gelu": "quick"}}, "gelu: none, tanh"),
        ({"quantize": {"gelu": "tanh"}}, "gelu only with rewrite"),
        ({"quantize": {"integer": {"neck": []}}}, "integer"),
        ({"quantize": {}}, "integer says which"),
        ({"granularity": "per_tensor"}, "per_channel, not per_tensor"),
        ({"activations": "int16"}, "found int8 and int16"),
        ({"exceptions": {"encoder": {"neck.*": "palette4"}}}, "not palette4"),
    ],
)
def test_recipes_that_no_file_can_have_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        onnx_quantize.check_recipe(replace(W8A8, **change))  # type: ignore[arg-type]


def test_a_static_recipe_without_samples_is_refused() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    with pytest.raises(TargetError, match="was given no samples"):
        onnx_quantize.quantize(model, "encoder", W8A8, [], [])


def test_a_pattern_that_fits_no_weight_is_refused() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    recipe: Recipe = replace(W8A8, quantize={"integer": {"encoder": ["nothing"]}})
    sample = {"x": np.ones((5, 4), np.float32)}
    model.graph.output[0].name = model.graph.node[0].output[0] = "image_embeddings"
    with pytest.raises(TargetError, match="'nothing' is no weight of the encoder"):
        onnx_quantize.quantize(model, "encoder", recipe, [sample], [])
