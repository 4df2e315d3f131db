"""The real encoder in ONNX: rewrites that are exact, and what each recipe makes of it."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mobilesam_export import metrics
from mobilesam_export.backends import reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.onnx import backend as backend
from mobilesam_export.backends.onnx import quantize, ranges, rewrite
from mobilesam_export.backends.onnx.convert import _exported
from mobilesam_export.backends.onnx.graph import Array, attribute
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.target import load_target

TARGET = load_target("onnx")
CONTRACT = Contract(256, 6, TARGET.graph)
RECIPES = ("w8", "w8-dynamic", "w8a8", "w4")
Sample = dict[str, Array]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """One image of noise."""
    random = np.random.default_rng(0)
    return [{"image": random.integers(0, 256, (1, 256, 256, 3)).astype(np.uint8)}]


@pytest.fixture(scope="module")
def float32(sam: Sam) -> onnx.ModelProto:
    """The encoder of seeded weights as torch exports it, for the opset that has Attention."""
    recipe = TARGET.recipes["float32"]
    settings = backend.parse_recipe(recipe, TARGET.graph, {"opset": 23})
    metadata = {"version": "0", "description": "test"}
    conversion = Conversion(settings, recipe, CONTRACT, metadata)
    model: onnx.ModelProto = _exported(split_graphs(sam, CONTRACT)[0], conversion, 23)
    return model


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    float32: onnx.ModelProto,
    samples: list[Sample],
) -> Callable[[str], Path]:
    """The encoder quantised, once for each recipe."""
    folder = tmp_path_factory.mktemp("recipes")

    @cache
    def make(name: str) -> Path:
        recipe = TARGET.recipes[name]
        settings = quantize.check_recipe(recipe)
        model = quantize.quantize(
            float32, "encoder", recipe, settings, ranges.Finder(samples, "minmax", 100), {}
        )
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
    made: Callable[[str], Path], samples: list[Sample], sam: Sam, name: str
) -> None:
    session = backend.load(made(name), CONTRACT.encoder)
    found = session.run(samples[0])["image_embeddings"]
    expected = reference.load(sam, CONTRACT).encoder.run(samples[0])["image_embeddings"]
    least = {"w8": 35, "w8-dynamic": 25, "w8a8": 25, "w4": 15}  # untrained weights bear less
    assert metrics.psnr_db(found, expected) >= least[name]


def test_every_linear_layer_is_computed_in_int8(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    """None is passed over as by a list of MatMul after MatMul and Add have become Gemm."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(made("w8a8"), options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    # six in each of three blocks, the neck's 3x3 convolution unfolded, and six 1x1 convolutions
    # made linear, of which down1.project stays float32
    assert kinds["QGemm"] + kinds["MatMulIntegerToFloat"] == 3 * 6 + 1 + 5
    assert kinds["Attention"] == 3


def test_rewrites_are_exact_each_on_its_own(
    float32: onnx.ModelProto, samples: list[Sample]
) -> None:
    (expected,) = ranges.observe(float32, ["image_embeddings"], samples)
    kinds = [node.op_type for node in float32.graph.node]
    for step in (
        rewrite.move_bytes_first,
        rewrite.unfold,
        rewrite.make_linear,
        rewrite.fuse_attention,
    ):
        rewritten = step(float32)
        assert [node.op_type for node in rewritten.graph.node] != kinds
        (found,) = ranges.observe(rewritten, ["image_embeddings"], samples)
        assert metrics.psnr_db(*(item["image_embeddings"] for item in (found, expected))) > 110


def test_tanh_gelu_takes_the_place_of_every_exact_one(
    float32: onnx.ModelProto, samples: list[Sample]
) -> None:
    approximate = rewrite.approximate_gelu(float32, "tanh")
    forms = {
        attribute(node, "approximate") for node in approximate.graph.node if node.op_type == "Gelu"
    }
    assert forms == {b"tanh"}
    (expected,) = ranges.observe(float32, ["image_embeddings"], samples)
    (found,) = ranges.observe(approximate, ["image_embeddings"], samples)
    psnr_db = metrics.psnr_db(*(item["image_embeddings"] for item in (found, expected)))
    assert quantize.GELU_PSNR_DB < psnr_db < 100


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
