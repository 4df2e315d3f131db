"""What is in the TFLite files, beyond computing the right thing."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilesam_export.backends.tflite import backend as backend
from mobilesam_export.backends.tflite import model_file, names, quantize, xnnpack
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError, TargetError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.graphs.names import weights
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.model import Sam
from mobilesam_export.target import Recipe, load_target
from tests.conftest import WEIGHTS

GRAPHS = ("encoder", "decoder")
CONTRACT = Contract(256, 6, load_target("tflite").graph)
# What GPU delegates refuse, or whose result depends on data.
FORBIDDEN = {
    *("GATHER", "GATHER_ND", "SCATTER_ND", "WHERE", "SELECT", "SELECT_V2", "BROADCAST_TO"),
    *("TILE", "ONE_HOT", "SPLIT", "WHILE", "IF"),
}


@pytest.fixture(scope="session")
def bundle(export: Callable[..., Path]) -> Path:
    return export("tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")


def described(folder: Path, graph: str) -> GraphDescription:
    return backend.describe(folder / f"{graph}.tflite")


def quantized(folder: Path, sam: Sam, graph: str, recipe: str) -> bytes:
    """What the recipe makes of the float32 file, without converting again."""
    parsed = quantize.parse(load_target("tflite").recipes[recipe], graph)
    content = (folder / f"{graph}.tflite").read_bytes()
    (module,) = (g.module for g in split_graphs(sam, CONTRACT) if g.spec.name == graph)
    paths = names.weight_paths(content, module)
    return quantize.quantize(content, parsed, getattr(CONTRACT, graph), (), paths)


def constants(content: bytes) -> dict[str, tuple[Any, Any]]:
    """Numbers and quantisation of every float32 and int8 constant, by name."""
    model = model_file.read(content)
    dtypes = {0: np.float32, 9: np.int8}  # TensorType
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and tensor.type in dtypes:
            numbers = np.frombuffer(bytes(data), dtypes[tensor.type])
            found[tensor.name.decode()] = (numbers, tensor.quantization)
    return found


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_interface_is_the_contracts(bundle: Path, graph: str) -> None:
    found, spec = described(bundle, graph), getattr(CONTRACT, graph)
    for tensors, expected in ((found.inputs, spec.inputs), (found.outputs, spec.outputs)):
        assert [(t.name, t.shape, t.dtype) for t in tensors] == [
            (t.name, t.shape, t.dtype) for t in expected
        ]


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_tensor_has_more_than_four_axes_or_a_dynamic_one(bundle: Path, graph: str) -> None:
    tensors = described(bundle, graph).activations()
    assert max(tensor.rank or 0 for tensor in tensors) == 4
    assert all(tensor.elements is not None for tensor in tensors)


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_op_depends_on_data(bundle: Path, graph: str) -> None:
    assert not {node.kind for node in described(bundle, graph).nodes} & FORBIDDEN


def test_every_weight_of_the_encoder_is_found_in_its_file_by_name(bundle: Path, sam: Sam) -> None:
    """All ops of a weight; the converter's own names are no paths (`0/expand`, `conv1`)."""
    encoder, _ = split_graphs(sam, CONTRACT)
    paths = names.weight_paths((bundle / "encoder.tflite").read_bytes(), encoder.module)
    assert set(paths.values()) == set(weights(encoder.module))
    tiles = Counter(paths.values())
    assert tiles["stem.conv1.weight"] == tiles["down1.project.weight"] == CONTRACT.form.row_tiles
    assert tiles["down2.project.weight"] == tiles["neck.2.weight"] == 1


def test_weights_that_the_converter_scales_are_found_by_the_name_of_their_op(
    bundle: Path, sam: Sam
) -> None:
    _, decoder = split_graphs(sam, CONTRACT)
    paths = names.weight_paths((bundle / "decoder.tflite").read_bytes(), decoder.module)
    queries = [path for path in weights(decoder.module) if path.endswith(".q.weight")]
    assert len(queries) == 7
    assert set(queries) <= set(paths.values())
    assert paths["iou_predictions"] == "transformer.iou_head.layers.2.weight"


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_path_or_module_of_ours_is_inside_the_file(bundle: Path, graph: str) -> None:
    content = (bundle / f"{graph}.tflite").read_bytes()
    assert b"site-packages" not in content
    assert b"mobilesam_export." not in content
    assert str(Path(__file__).parents[1]).encode() not in content


@pytest.mark.parametrize("graph", GRAPHS)
def test_float16_halves_the_weights_and_computes_nearly_the_same(
    bundle: Path, sam: Sam, tmp_path: Path, graph: str
) -> None:
    path, spec = tmp_path / f"{graph}.tflite", getattr(CONTRACT, graph)
    path.write_bytes(quantized(bundle, sam, graph, "float16"))
    whole = (bundle / path.name).stat().st_size
    assert path.stat().st_size < 0.52 * whole
    random = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        item.name: random.integers(0, 4, item.shape).astype(item.dtype) for item in spec.inputs
    }
    found, expected = (backend.load(p, spec).run(inputs) for p in (path, bundle / path.name))
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < 5e-3 * np.abs(values).max()
        assert not np.array_equal(found[name], values)


def test_w8_dynamic_stores_all_but_what_it_excepts_in_int8(bundle: Path, sam: Sam) -> None:
    content = model_file.read(quantized(bundle, sam, "encoder", "w8-dynamic"))
    graph, kinds = content.subgraphs[0], model_file.op_kinds(content)
    stored: dict[int, int] = {}
    for tensor in graph.tensors:
        data = content.buffers[tensor.buffer].data
        if data is not None and len(tensor.shape) > 1:
            stored[tensor.type] = stored.get(tensor.type, 0) + len(data)
    float32, float16, int8 = 0, 1, 9  # TensorType
    # a bottleneck, what halves its map (each written once), the ways between stages, the neck
    excepted = 2 * 32 * 128 + (32 + 64) * 64 + (64 + 64) * 64 + (64 + 128) * 128 + 128 * 256
    depthwise = 9 * (128 + 128 + 128)  # those of 64 channels have too few elements
    assert stored[float16] == 2 * (excepted + depthwise)
    assert stored[float32] < 0.02 * stored[int8]
    unpacked = [x.inputs[0] for x in graph.operators if kinds[x.opcodeIndex] == "DEQUANTIZE"]
    shapes = [tuple(graph.tensors[i].shape) for i in unpacked if graph.tensors[i].type == int8]
    biases = ((1, 2, 49, 49), (1, 2, 196, 196), (1, 4, 49, 49))  # of attention
    assert [shapes.count(shape) for shape in biases] == [1, 1, 1]
    assert (256, 3, 3, 256) in shapes


def test_added_constants_in_int8_are_within_half_a_step(bundle: Path) -> None:
    """Of the whole range; those that are not added stay."""
    recipe = load_target("tflite").recipes["w8-dynamic"]
    usual = {"encoder": [], "decoder": [], "other_constants": "float32"}
    chosen = dataclasses.replace(recipe, quantize={**usual, "encoder_stored": ["ADD"]})
    quantization = quantize.parse(dataclasses.replace(chosen, exceptions={}), "encoder")
    before = (bundle / "encoder.tflite").read_bytes()
    after = quantize.quantize(before, quantization, CONTRACT.encoder, (), {})
    values = constants(before)
    packed = {name: item for name, item in constants(after).items() if name.endswith("/int8")}
    assert len(packed) == 3  # one in each block with attention
    for name, (numbers, affine) in packed.items():
        exact = values[name.removesuffix("/int8")][0]
        (scale,), (zero,) = affine.scale, affine.zeroPoint
        assert np.abs((numbers.astype(np.float32) - zero) * scale - exact).max() <= 0.51 * scale
        assert scale <= 1.01 * (exact.max() - exact.min()) / 255


def test_the_encoder_is_one_partition_of_xnnpack(bundle: Path, sam: Sam, tmp_path: Path) -> None:
    """All but the cast of the image, which XNNPACK has no kernel for."""
    path = tmp_path / "encoder.tflite"
    path.write_bytes(quantized(bundle, sam, "encoder", "w8-dynamic"))
    for file in (path, bundle / "encoder.tflite"):
        found = xnnpack.find_partitions(file)
        assert found is not None
        assert (found.count, [kind for kind, _ in found.left]) == (1, ["CAST"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "int4"}, "a tflite recipe has"),
        ({"activations": "float16"}, "a tflite recipe has"),
        ({"granularity": "per_tensor"}, "granularity = 'per_channel'"),
        ({"quantize": {}}, "quantize table"),
        ({"quantize": {"encoder": ["SOFTMAX"], "decoder": [], "other_constants": "float32"}}, "SO"),
        ({"quantize": {"encoder": [], "decoder": 1, "other_constants": "float32"}}, "decoder is 1"),
        ({"quantize": {"encoder": [], "decoder": [], "other_constants": "int8"}}, "quantize table"),
        ({"quantize": {"more": 1}}, "quantize table"),
        (
            {"quantize": {"encoder": [], "decoder": [], "other_constants": "float16"}},
            "exceptions.encoder excepts nothing",
        ),
        (
            {"quantize": {"encoder": [], "decoder": [], "encoder_stored": ["RELU"]}},
            "quantize table",
        ),
    ],
)
def test_recipes_are_checked(change: dict[str, Any], message: str) -> None:
    good = load_target("tflite").recipes["w8-dynamic"]
    recipe = Recipe(**{**vars(good), **change})
    with pytest.raises(TargetError, match=message):
        quantize.parse(recipe, "encoder")


def test_convert_takes_no_options() -> None:
    target = load_target("tflite")
    with pytest.raises(TargetError, match="takes no keys"):
        backend.parse_recipe(target.recipes["float32"], target.graph, {"opset": 20})


@pytest.mark.parametrize("content", [b"", b"not tflite", b"\x1c\0\0\0TFL3" + bytes(40)])
def test_loading_something_else_is_an_error_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "encoder.tflite").write_bytes(content)
    with pytest.raises(BackendError, match=r"cannot load .*encoder\.tflite") as caught:
        backend.load(tmp_path / "encoder.tflite", CONTRACT.encoder)
    assert "\n" not in str(caught.value)


def test_loading_the_decoder_as_encoder_is_an_error(bundle: Path) -> None:
    with pytest.raises(BackendError, match="it is not the encoder"):
        backend.load(bundle / "decoder.tflite", CONTRACT.encoder)


def test_inputs_of_a_wrong_shape_are_an_error(bundle: Path) -> None:
    session = backend.load(bundle / "encoder.tflite", CONTRACT.encoder)
    with pytest.raises(BackendError, match=r"failed on encoder\.tflite"):
        session.run({"image": np.zeros((1, 128, 128, 3), np.uint8)})
