"""What is in the ONNX files, beyond computing the right thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import parity
from mobilesam_export import prompts
from mobilesam_export.backends.onnx import backend as backend
from mobilesam_export.backends.onnx import observe
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.errors import BackendError, TargetError
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS

# Operators that GPU and NPU providers refuse, or whose result depends on data.
FORBIDDEN = {
    *("NonZero", "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "Where"),
    *("Expand", "Tile", "Loop", "If", "Shape", "OneHot"),
}
GRAPHS = ("encoder", "decoder")


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    produced = {name for node in inferred.node for name in node.output}
    assert produced <= {value.name for value in values}  # every tensor's shape is known
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_tensor_has_more_than_four_axes(onnx_bundle: Path, graph: str) -> None:
    assert max(ranks(onnx.load(onnx_bundle / f"{graph}.onnx")).values()) == 4


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_operator_depends_on_data(onnx_bundle: Path, graph: str) -> None:
    used = {node.op_type for node in onnx.load(onnx_bundle / f"{graph}.onnx").graph.node}
    assert not used & FORBIDDEN


@pytest.mark.parametrize("graph", GRAPHS)
def test_float16_files_have_no_forbidden_operators_either(
    onnx_float16_bundle: Path, graph: str
) -> None:
    model = onnx.load(onnx_float16_bundle / f"{graph}.onnx")
    assert not {node.op_type for node in model.graph.node} & FORBIDDEN
    stored = {item.data_type for item in model.graph.initializer if np.prod(item.dims) > 1024}
    assert stored == {onnx.TensorProto.FLOAT16}


def test_a_layer_of_keep_float32_computes_in_float32_from_float16_weights(
    onnx_float16_bundle: Path,
) -> None:
    graph = onnx.load(onnx_float16_bundle / "encoder.onnx").graph
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    (conv,) = [
        node
        for node in graph.node
        if node.op_type == "Conv" and node.input[1].endswith("neck.2.weight/float32")
    ]
    assert all(casts[name].attribute[0].i == onnx.TensorProto.FLOAT for name in conv.input)
    (back,) = [node for node in casts.values() if node.input[0] == conv.output[0]]
    assert back.attribute[0].i == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("graph", GRAPHS)
def test_runtimes_that_break_layer_norm_in_float16_refuse_the_files(
    onnx_float16_bundle: Path, graph: str
) -> None:
    """ONNX Runtime 1.17 and 1.18, which know opsets up to 20 and 21, give garbage for them."""
    model = onnx.load(onnx_float16_bundle / f"{graph}.onnx")
    assert "LayerNormalization" in {node.op_type for node in model.graph.node}
    assert model.opset_import[0].version > 21


def test_nothing_else_is_cast(onnx_float16_bundle: Path) -> None:
    """The image twice, input, weight and result of the neck's convolution, the embedding."""
    graph = onnx.load(onnx_float16_bundle / "encoder.onnx").graph
    assert sum(node.op_type == "Cast" for node in graph.node) == 6


def test_encoder_is_within_its_size(onnx_bundle: Path) -> None:
    assert (onnx_bundle / "encoder.onnx").stat().st_size <= 29e6


@pytest.mark.parametrize("graph", GRAPHS)
def test_provenance_is_inside_the_file(onnx_bundle: Path, graph: str) -> None:
    model = onnx.load(onnx_bundle / f"{graph}.onnx")
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["checkpoint_source"] == WEIGHTS
    assert found["recipe"] == "float32"
    assert "Apache-2.0" in found["license"]
    assert model.producer_name == "mobilesam-export"


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_path_of_this_machine_is_inside_the_file(onnx_bundle: Path, graph: str) -> None:
    content = (onnx_bundle / f"{graph}.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[1]).encode() not in content


def test_sam_decoder_has_the_official_interface(onnx_sam_bundle: Path) -> None:
    graph = onnx.load(onnx_sam_bundle / "decoder.onnx").graph
    assert [item.name for item in graph.input] == [
        *("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"),
        "orig_im_size",
    ]
    assert [item.name for item in graph.output] == ["masks", "iou_predictions", "low_res_masks"]


@pytest.mark.parametrize(("height", "width"), [(684, 1024), (33, 500), (500, 33), (256, 256)])
def test_sam_decoder_upscales_as_the_host_does(
    onnx_sam_bundle: Path, height: int, width: int
) -> None:
    contract = open_bundle(onnx_sam_bundle).contract
    decoder = backend.load(onnx_sam_bundle / "decoder.onnx", contract.decoder)
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(1, 256, 16, 16)).astype(np.float32)
    prompt = prompts.Prompt(((width / 2, height / 2, True),))
    outputs = decoder.run(prompts.decoder_inputs(prompt, embeddings, (height, width), contract))
    expected = prompts.upscale(outputs["low_res_masks"][0, 0], (height, width), square(256))
    assert outputs["masks"].shape == (1, 1, height, width)
    assert np.abs(outputs["masks"][0, 0] - expected).max() <= 1e-3


def test_largest_activation_shows_an_overflow_that_the_cpu_hides(tmp_path: Path) -> None:
    """x * 1000 * 0.001 in float16 overflows on a GPU; ONNX Runtime's CPU answers x."""
    half = onnx.TensorProto.FLOAT16
    nodes = [
        onnx.helper.make_node("Mul", ["x", "big"], ["product"]),
        onnx.helper.make_node("Mul", ["product", "small"], ["y"]),
    ]
    constants = [
        onnx.helper.make_tensor("big", half, [], [1000.0]),
        onnx.helper.make_tensor("small", half, [], [0.001]),
    ]
    x, y = (onnx.helper.make_tensor_value_info(name, half, [2]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "overflow", [x], [y], constants)
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    path = tmp_path / "overflow.onnx"
    onnx.save(model, path)
    name, value = observe.largest_activation(path, {"x": np.array([1, 1000], np.float16)})
    assert name == "product"
    assert value == pytest.approx(1e6)


def test_largest_activation_is_nothing_in_float32(onnx_bundle: Path) -> None:
    contract = Contract(256, 6, load_target("onnx").graph)
    inputs = prompts.encoder_inputs(scene(0, 50, 50), contract)
    assert observe.largest_activation(onnx_bundle / "encoder.onnx", inputs) == ("", 0.0)


def test_loading_something_else_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"not onnx")
    spec = Contract(256, 6, load_target("onnx").graph).encoder
    with pytest.raises(BackendError, match=r"cannot load .*encoder\.onnx") as caught:
        backend.load(tmp_path / "encoder.onnx", spec)
    assert "\n" not in str(caught.value)


def test_loading_the_decoder_as_encoder_is_an_error(onnx_bundle: Path) -> None:
    spec = Contract(256, 6, load_target("onnx").graph).encoder
    with pytest.raises(BackendError, match="is not the encoder"):
        backend.load(onnx_bundle / "decoder.onnx", spec)


def test_a_device_that_is_not_here_is_an_error_with_the_reason(onnx_bundle: Path) -> None:
    spec = Contract(256, 6, load_target("onnx").graph).encoder
    for device, reason in (("abacus", "no such device"), ("cuda", "CUDAExecutionProvider")):
        if backend.devices().get(device, "no"):
            with pytest.raises(BackendError, match=f"on {device}: .*{reason}"):
                backend.load(onnx_bundle / "encoder.onnx", spec, device)


def test_the_number_of_threads_changes_no_answer(onnx_bundle: Path) -> None:
    contract = Contract(256, 6, load_target("onnx").graph)
    inputs = prompts.encoder_inputs(scene(0, 50, 50), contract)
    sessions = [
        backend.load(onnx_bundle / "encoder.onnx", contract.encoder, "cpu", threads)
        for threads in (0, 1, 2)
    ]
    free, one, two = (session.run(inputs)["image_embeddings"] for session in sessions)
    np.testing.assert_allclose(one, free, atol=1e-5)
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("table", [{}, {"opset": 17}, {"opset": "20"}, {"opset": 20, "x": 1}])
def test_options_are_checked(table: dict[str, object]) -> None:
    target = load_target("onnx")
    with pytest.raises(TargetError, match="opset"):
        backend.parse_recipe(target.recipes["float32"], target.graph, table)


def test_a_word_that_keeps_nothing_in_float32_is_refused() -> None:
    target = load_target("onnx")
    recipe = target.recipes["float16"]
    mistaken = replace(recipe, keep_float32=(*recipe.keep_float32, "nekc.2"))
    with pytest.raises(TargetError, match=r"'nekc\.2' is no module's class"):
        backend.parse_recipe(mistaken, target.graph, target.convert)


@pytest.mark.slow
def test_pytorch_and_onnx_equal_the_official_model() -> None:
    """The numbers of the README, on golden vectors at 1024."""
    figures = parity.measure()
    for way in ("PyTorch", "ONNX float32, zeros as padding"):
        assert figures[way].embedding_max_abs_error <= 1e-4
        assert figures[way].logits_max_abs_error <= 1e-3
        assert figures[way].iou_max_abs_error <= 1e-3
        assert figures[way].mask_iou >= 0.999
    assert figures["ONNX float32, the fill color as padding"].mask_iou >= 0.995
