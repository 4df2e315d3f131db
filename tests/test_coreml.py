"""What is in the Core ML packages, and that the evaluator finds in them what PyTorch computes."""

import json
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import interpreter_parity
from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError, MobileSamExportError, TargetError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.inspection.memory import find_peak
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.mil import read_program
from mobilesam_export.model import PIXEL_MEAN, Sam, build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.quiet import quiet
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS, mobilesam_state_dict

GRAPHS = ("encoder", "decoder")
NEEDS_NO_MAC = pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is here")


def read_spec(bundle: Path, graph: str) -> Any:
    with quiet():
        from coremltools.proto import Model_pb2
    path = bundle / f"{graph}.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    return Model_pb2.Model.FromString(path.read_bytes())


def operations(spec: Any) -> Iterator[Any]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def tensor_type(output: Any) -> Any:
    return output.type.tensorType


@pytest.mark.parametrize("graph", GRAPHS)
def test_metadata_says_what_the_package_is(coreml_bundle: Path, graph: str) -> None:
    metadata = read_spec(coreml_bundle, graph).description.metadata
    assert metadata.shortDescription.startswith("MobileSAM")
    assert "Zhang et al., 2023" in metadata.author
    assert "Apache-2.0" in metadata.license
    assert metadata.versionString
    assert metadata.userDefined["checkpoint_source"] == WEIGHTS
    assert metadata.userDefined["recipe"] == "float16"


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_input_and_output_is_described(coreml_bundle: Path, graph: str) -> None:
    description = read_spec(coreml_bundle, graph).description
    contract = Contract(256, 6, load_target("coreml").graph)
    expected = contract.encoder if graph == "encoder" else contract.decoder
    found = {item.name: item.shortDescription for item in (*description.input, *description.output)}
    assert found == {item.name: item.meaning for item in (*expected.inputs, *expected.outputs)}


def test_the_encoder_takes_an_rgb_image_and_subtracts_the_means(
    export: Callable[..., Path],
) -> None:
    """Exact normalisation: the means here, the divisors in the first convolution."""
    folder = export("coreml", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")
    spec = read_spec(folder, "encoder")
    (image,) = spec.description.input
    assert (image.type.imageType.height, image.type.imageType.width) == (256, 256)
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    program = read_program(folder / "encoder.mlpackage")
    (subtraction,) = (op for op in program.operations if op.kind == "sub")
    assert subtraction.inputs["x"] == ("image",)
    _, mean = program.constants[subtraction.inputs["y"][0]]
    assert np.asarray(mean).reshape(3) == pytest.approx(np.array(PIXEL_MEAN))


@pytest.mark.parametrize("graph", GRAPHS)
def test_no_tensor_has_more_than_four_axes(coreml_bundle: Path, graph: str) -> None:
    ops = operations(read_spec(coreml_bundle, graph))
    assert max(tensor_type(output).rank for op in ops for output in op.outputs) == 4


def test_positions_stay_float32_in_a_float16_decoder(coreml_bundle: Path) -> None:
    with quiet():
        from coremltools.proto import MIL_pb2
    ops = list(operations(read_spec(coreml_bundle, "decoder")))
    types = {op.type: tensor_type(op.outputs[0]).dataType for op in ops}
    assert types["sin"] == types["cos"] == types["round"] == MIL_pb2.FLOAT32
    assert types["softmax"] == types["layer_norm"] == MIL_pb2.FLOAT16


def test_the_float32_recipe_has_no_float16(export: Callable[..., Path]) -> None:
    with quiet():
        from coremltools.proto import MIL_pb2
    folder = export("coreml", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")
    ops = list(operations(read_spec(folder, "encoder")))
    assert MIL_pb2.FLOAT16 not in {tensor_type(o).dataType for op in ops for o in op.outputs}


@pytest.fixture(scope="module")
def mobilesam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float16 encoder of MobileSAM's own size, in a folder."""
    sam, target = build_sam(mobilesam_state_dict(), 256), load_target("coreml")
    contract = Contract(256, 6, target.graph)
    name, recipe = target.recipe(None)
    assert name == "float16"
    settings = coreml.parse_recipe(recipe, contract.form, target.convert)
    metadata = dict.fromkeys(("description", "author", "license", "version"), "")
    folder = tmp_path_factory.mktemp("mobilesam")
    encoder, _ = split_graphs(sam, contract)
    conversion = Conversion(settings, recipe, contract, metadata)
    coreml.convert(encoder, conversion, folder / "encoder.mlpackage")
    return folder


def test_layer_norms_are_fused_and_nothing_is_unfused(mobilesam: Path) -> None:
    kinds = [op.type for op in operations(read_spec(mobilesam, "encoder"))]
    assert kinds.count("layer_norm") == 22
    assert not {"reduce_mean", "rsqrt", "sqrt", "gather", "gather_nd", "scatter_nd"} & set(kinds)


def test_the_encoder_is_resident_but_for_the_casts_at_its_edges(mobilesam: Path) -> None:
    graph = coreml.describe(mobilesam / "encoder.mlpackage")
    assert graph.residency is not None
    placed = list(zip(graph.nodes, graph.residency, strict=True))
    others = [node for node, placement in placed if placement.verdict != Verdict.RESIDENT]
    assert [node.kind for node in others] == ["cast", "cast"]
    assert others[0].operands() == graph.inputs
    assert others[1].outputs == graph.outputs


def test_the_encoder_has_few_ops_that_only_move_data(mobilesam: Path) -> None:
    """For each of 10 blocks 4 reshapes, 4 transposes, a split, a pad, a slice."""
    kinds = Counter(op.type for op in operations(read_spec(mobilesam, "encoder")))
    moved = ("reshape", "transpose", "split", "pad", "slice_by_index", "concat")
    assert [kinds[kind] for kind in moved] == [40, 40, 10, 10, 10, 2]


def test_the_readme_tells_what_activations_take(coreml_bundle: Path) -> None:
    encoder = coreml_bundle / "encoder.mlpackage"
    size = sum(file.stat().st_size for file in encoder.rglob("*") if file.is_file())
    peak = find_peak(coreml.describe(encoder))
    row = f"| `encoder.mlpackage` | {size / 1e6:.1f} MB | {peak.bytes / 1e6:.1f} MB |"
    assert row in (coreml_bundle / "README.md").read_text()


def test_fused_attention_needs_ios_18() -> None:
    target = load_target("coreml")
    form = replace(target.graph, attention="sdpa")
    with pytest.raises(TargetError, match="iOS18"):
        coreml.parse_recipe(target.recipes["float16"], form, target.convert)


@pytest.mark.parametrize(
    ("attention", "ios", "ops", "rule"),
    [
        ("sdpa", "iOS18", ("scaled_dot_product_attention", 3), "fused attention"),
        ("per-head", "iOS16", ("einsum", 2 * (2 + 2 + 4)), "einsum of windows"),
    ],
)
def test_other_forms_of_attention_compute_the_same_and_what_is_said_of_them(
    sam: Sam, tmp_path: Path, attention: str, ios: str, ops: tuple[str, int], rule: str
) -> None:
    kind, count = ops
    target = load_target("coreml")
    contract = Contract(256, 6, replace(target.graph, attention=attention))
    encoder, _ = split_graphs(sam, contract)
    recipe, convert = target.recipes["float32"], {"minimum_deployment_target": ios}
    settings = coreml.parse_recipe(recipe, contract.form, convert)
    metadata = dict.fromkeys(("description", "author", "license", "version"), "")
    path = tmp_path / "encoder.mlpackage"
    conversion = Conversion(settings, recipe, contract, metadata)
    coreml.convert(encoder, conversion, path)
    kinds = [op.type for op in operations(read_spec(tmp_path, "encoder"))]
    assert kinds.count(kind) == count
    inputs = prompts.encoder_inputs(scene(0, 200, 256), contract)
    found = coreml.second_opinion(path).run(inputs)["image_embeddings"]
    expected = reference.load(sam, contract).encoder.run(inputs)["image_embeddings"]
    assert np.abs(found - expected).max() <= 1e-3
    described = coreml.describe(path)
    assert described.residency is not None
    said = {
        statement.name
        for node, placement in zip(described.nodes, described.residency, strict=True)
        for statement in placement.statements
        if node.kind == kind
    }
    assert rule in said
    assert "attention batch" not in said


@NEEDS_NO_MAC
def test_a_package_is_verified_by_the_evaluator_in_its_own_precision(
    export: Callable[..., Path], coreml_bundle: Path
) -> None:
    float32 = export("coreml", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")
    for folder, runtime, most in (
        (coreml_bundle, "MIL interpreter, float16", 0.2),
        (float32, "MIL interpreter, float32", 1e-3),
    ):
        report = json.loads((folder / "manifest.json").read_text())["verification"]
        assert (report["status"], report["runtime"]) == ("passed", runtime)
        assert max(item["logits_max_abs_error"] for item in report["prompts"]) <= most


def test_the_evaluator_and_onnx_runtime_agree_in_float32(
    export: Callable[..., Path], onnx_bundle: Path
) -> None:
    """Two converters, two layouts, two ways to compute; benchmarks has the figures at 1024."""
    folder = export("coreml", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")
    encoder, decoder = (coreml.second_opinion(folder / f"{name}.mlpackage") for name in GRAPHS)
    interpreted = Predictor(encoder, decoder, open_bundle(folder).contract)
    found = interpreter_parity.compare(interpreted, open_bundle(onnx_bundle).predictor())
    assert found.embedding_max_abs_error <= 1e-3
    assert found.logits_max_abs_error <= 1e-3
    assert found.mask_iou >= 0.999


def test_the_evaluator_tells_the_largest_float16_activation(coreml_bundle: Path) -> None:
    contract = Contract(256, 6, load_target("coreml").graph)
    session = coreml.second_opinion(coreml_bundle / "encoder.mlpackage")
    assert session.largest is not None
    name, value = session.largest(prompts.encoder_inputs(scene(0, 50, 50), contract))
    assert name
    assert 10 < value < 65504


def test_a_package_without_weights_is_an_error_in_one_line(
    coreml_bundle: Path, tmp_path: Path
) -> None:
    package = tmp_path / "encoder.mlpackage"
    shutil.copytree(coreml_bundle / "encoder.mlpackage", package)
    (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").unlink()
    with pytest.raises(MobileSamExportError, match=r"weight\.bin") as caught:
        coreml.second_opinion(package)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", [{}, {"minimum_deployment_target": "iOS9"}, {"opset": 20}])
def test_options_are_checked(table: dict[str, object]) -> None:
    target = load_target("coreml")
    with pytest.raises(TargetError, match="minimum_deployment_target"):
        coreml.parse_recipe(target.recipes["float32"], target.graph, table)


@NEEDS_NO_MAC
def test_compute_units_are_core_mls_and_need_macos(coreml_bundle: Path) -> None:
    spec = Contract(256, 6, load_target("coreml").graph).encoder
    assert set(coreml.devices().values()) == {"Core ML needs macOS"}
    with pytest.raises(BackendError, match=r"on cpu\+ne: Core ML needs macOS"):
        coreml.load(coreml_bundle / "encoder.mlpackage", spec, "cpu+ne")
