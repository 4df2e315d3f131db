"""Compressed weights: what each recipe of the coreml target writes, and what it refuses."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.backends.coreml import weights
from mobilesam_export.backends.coreml.compensation import Grid
from mobilesam_export.backends.onnx import backend as onnx
from mobilesam_export.bundle import manifest
from mobilesam_export.bundle.readme import artifact_sizes
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.target import Recipe, load_target, parse_target
from tests.coreml_packages import compressed_spec, opened
from tests.test_coreml import operations, read_spec

IOS16, IOS18 = 7, 9  # versions of Core ML's specification
COMPRESSED = ("w8", "w6-palettized", "w4-palettized")
TARGET = load_target("coreml")
TEXT = (Path(__file__).parents[1] / "targets" / "coreml.toml").read_text()
# Of the float16 encoder at 256, by recipe: 8, 6 and 4 bits of 16, a palette8 here and there, and
# what no recipe compresses: depthwise convolutions, biases, the program itself.
MOST_OF_FLOAT16 = {"w8": 0.54, "w6-palettized": 0.42, "w4-palettized": 0.31}


@pytest.fixture(scope="session")
def decoder(sam: Sam) -> Graph:
    return split_graphs(sam, Contract(256, 6, TARGET.graph))[1]


@pytest.fixture(scope="session", params=COMPRESSED)
def recipe_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def kinds(spec: Any) -> Counter[str]:
    return Counter(op.type for op in operations(spec) if op.type.startswith("constexpr_"))


def convert(sam: Sam, recipe: Recipe, path: Path, graph: str = "decoder") -> None:
    contract = Contract(256, 6, TARGET.graph)
    (found,) = (g for g in split_graphs(sam, contract) if g.spec.name == graph)
    metadata = dict.fromkeys(("description", "author", "license", "version"), "")
    settings = coreml.parse_recipe(recipe, TARGET.graph, {**TARGET.convert, **recipe.convert})
    coreml.convert(found, Conversion(settings, recipe, contract, metadata), path)


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [
        ("w8", IOS16, "constexpr_affine_dequantize"),
        ("w6-palettized", IOS16, "constexpr_lut_to_dense"),
        ("w4-palettized", IOS18, "constexpr_lut_to_dense"),
    ],
)
def test_encoder_has_the_declared_operations_for_the_declared_system(
    compressed: Callable[[str], Path], name: str, version: int, kind: str
) -> None:
    """23 tensors of the encoder have more than weight_threshold numbers."""
    spec = read_spec(compressed(name), "encoder")
    assert spec.specificationVersion == version
    assert kinds(spec) == {kind: 23}


def test_a_recipe_overrides_the_minimum_system_of_its_target(
    compressed: Callable[[str], Path], coreml_bundle: Path
) -> None:
    assert read_spec(coreml_bundle, "encoder").specificationVersion == IOS16
    manifest = json.loads((compressed("w4-palettized") / "manifest.json").read_text())
    assert manifest["convert"] == {"minimum_deployment_target": "iOS18"}


def test_encoder_is_as_small_as_its_bits(
    recipe_name: str, compressed: Callable[[str], Path], coreml_bundle: Path
) -> None:
    small, large = (artifact_sizes(f) for f in (compressed(recipe_name), coreml_bundle))
    ratio = small["encoder.mlpackage"] / large["encoder.mlpackage"]
    bits = {"w8": 8, "w6-palettized": 6, "w4-palettized": 4}[recipe_name]
    assert bits / 16 < ratio < MOST_OF_FLOAT16[recipe_name]


def test_depthwise_convolutions_stay_float16(
    recipe_name: str, compressed: Callable[[str], Path]
) -> None:
    spec = read_spec(compressed(recipe_name), "encoder")
    made_by, channels = {}, {}
    for op in operations(spec):
        for output in op.outputs:
            made_by[output.name] = op.type
            dimensions = output.type.tensorType.dimensions
            channels[output.name] = [d.constant.size for d in dimensions][1:2]
    weights = [
        op.inputs["weight"].arguments[0].name for op in operations(spec) if op.type == "conv"
    ]
    depthwise = [name for name in weights if channels[name] == [1]]
    # one in each block, where the first stage has two chunks, and between the stages
    assert len(depthwise) == 4 + 1 + 3
    assert {made_by[name] for name in depthwise} == {"const"}


def test_exceptions_have_other_palettes(compressed: Callable[[str], Path]) -> None:
    """64 entries between the stages, 16 for each of 16 groups of 16 channels elsewhere."""
    spec = read_spec(compressed("w4-palettized"), "encoder")
    luts = {}
    for op in operations(spec):
        if op.type == "constexpr_lut_to_dense":
            dimensions = op.inputs["lut"].arguments[0].value.type.tensorType.dimensions
            luts[op.outputs[0].name] = tuple(d.constant.size for d in dimensions)
    assert luts["p_stem_conv2_weight_to_fp16_palettized"] == (1, 1, 1, 1, 64, 1)
    assert luts["b_stage3_blocks_0_bias_0_to_fp16_palettized"] == (1, 1, 1, 1, 16, 1)
    assert luts["p_stage2_blocks_0_fc1_0_weight_to_fp16_palettized"] == (16, 1, 1, 1, 16, 1)


@pytest.mark.parametrize("name", ["w6-palettized", "w4-palettized"])
def test_every_exception_of_the_decoder_fits_a_weight(
    name: str, coreml_bundle: Path, decoder: Graph
) -> None:
    """Or it would be refused; `compress` takes the same names."""
    model = opened(coreml_bundle / "decoder.mlpackage")
    found = weights.grids(model, TARGET.recipes[name], decoder)
    assert found["p_transformer_final_q_weight_to_fp16"] == Grid(entries=256, group=0)
    assert "p_mask_prompt_layers_0_weight_to_fp16" not in found


def test_an_exception_of_the_decoder_has_a_palette_of_its_own(
    coreml_bundle: Path, decoder: Graph
) -> None:
    """Most weights are left out here, as their palettes take a minute."""
    usual = TARGET.recipes["w6-palettized"]
    most = ("transformer.blocks", "transformer.hyper_networks", "transformer.image_pe")
    exceptions = {**usual.exceptions["decoder"], **dict.fromkeys(most, "float16")}
    recipe = replace(usual, exceptions={"decoder": exceptions})
    spec = compressed_spec(coreml_bundle / "decoder.mlpackage", recipe, decoder)
    sizes = {
        op.outputs[0].name: op.attributes["lut"].type.tensorType.dimensions[0].constant.size
        for op in operations(spec)
        if op.type == "constexpr_lut_to_dense"
    }
    assert sizes["p_transformer_final_q_weight_to_fp16_palettized"] == 256
    assert not [name for name in sizes if "upscaling" in name]


def test_compression_gives_the_same_bytes_twice(sam: Sam, tmp_path: Path) -> None:
    """With groups, k-means starts from random centers, and two threads add up in any order."""
    most = ("transformer.blocks", "transformer.hyper_networks", "transformer.image_pe")
    some = dict.fromkeys(most, "float16")  # else it takes ten times longer
    usual = TARGET.recipes["w4-palettized"]
    recipe = replace(usual, exceptions={"decoder": some}, calibrate_weights=False)
    packages = [tmp_path / name / "decoder.mlpackage" for name in ("first", "second")]
    for package in packages:
        package.parent.mkdir()
        convert(sam, recipe, package)
    assert kinds(read_spec(packages[0].parent, "decoder"))["constexpr_lut_to_dense"] == 9
    first, second = (
        {
            path.relative_to(package): path.read_bytes()
            for path in package.rglob("*.*")
            if path.is_file()
        }
        for package in packages
    )
    assert first == second


def test_a_bundle_can_be_opened_again(recipe_name: str, compressed: Callable[[str], Path]) -> None:
    again = manifest.open_bundle(compressed(recipe_name))
    assert again.recipe.tolerance == TARGET.recipes[recipe_name].tolerance


@pytest.mark.parametrize(
    ("name", "limit"), [("w8", 0.99), ("w6-palettized", 0.97), ("w4-palettized", 0.93)]
)
def test_mask_iou_is_held_to_what_was_agreed(name: str, limit: float) -> None:
    assert TARGET.recipes[name].tolerance.mask_iou == limit


def test_an_exception_keeps_a_weight_as_it_is(coreml_bundle: Path, decoder: Graph) -> None:
    recipe = replace(TARGET.recipes["w8"], exceptions={"decoder": {"*": "float16"}})
    spec = compressed_spec(coreml_bundle / "decoder.mlpackage", recipe, decoder)
    assert not kinds(spec)


def test_an_exception_for_no_weight_is_refused(coreml_bundle: Path, decoder: Graph) -> None:
    some = {"transformer.upscalling.*": "float16"}
    recipe = replace(TARGET.recipes["w8"], exceptions={"decoder": some})
    with pytest.raises(TargetError, match="upscalling") as caught:
        compressed_spec(coreml_bundle / "decoder.mlpackage", recipe, decoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exceptions": {"decoder": {"*": "palette8"}}}, "float16 only"),
        ({"granularity": "per_grouped_channel", "group_size": 8}, "per_tensor or per_channel"),
        ({"weights": "palette6"}, "per_tensor or per_grouped_channel"),
        ({"activations": "float32"}, "int8 and float32"),
        ({"weights": "int4"}, "int4 and float16"),
        ({"keep_float32": ("sinn",)}, "'sinn', which is no operation"),
        ({"granularity": "per_tensor"}, "for palettes and for int8 per_channel"),
        ({"quantize": {"float_inputs": {}}}, "for int8 activations"),
        ({"activations": "int8"}, '"iOS17" or newer'),
        (
            {"weights": "palette4", "granularity": "per_grouped_channel", "group_size": 8}
            | {"exceptions": {}},
            '"iOS18" or newer',
        ),
    ],
)
def test_what_cannot_be_compressed_so_is_refused(changes: dict[str, Any], message: str) -> None:
    recipe = replace(TARGET.recipes["w8"], **changes)
    with pytest.raises(TargetError, match=message):
        coreml.parse_recipe(recipe, TARGET.graph, {**TARGET.convert, **recipe.convert})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('weights = "int8"', 'weights = "int7"', "expected one of"),
        ('weights = "int8"', 'weights = "float16"', "for compressed weights"),
        ('granularity = "per_channel"', "", "granularity is ''"),
        ("group_size = 16", "", "group_size"),
        ("group_size = 16", "group_size = -1", "group_size"),
        ("weight_threshold = 3000", "weight_threshold = true", "expected int"),
        ("weight_threshold = 3000", "weight_treshold = 3000", "unknown key 'weight_treshold'"),
        ("[exceptions.decoder]", "[exceptions.decodre]", "decodre"),
        ('upscaling.*" = "float16"', 'upscaling.*" = "flaot16"', "flaot16"),
        ('upscaling.*" = "float16"', 'upscaling.*" = 16', "is 16"),
        ('conv2" = "palette8"', 'conv2" = "palete8"', "palete8"),
        ("inherit_exceptions = false", "inherit_exceptions = 0", "expected true or false, found 0"),
    ],
)
def test_mistakes_in_a_recipe_are_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(TargetError, match=message):
        parse_target("mine", TEXT.replace(old, new, 1))


def test_a_recipe_cannot_name_another_system() -> None:
    text = TEXT.replace('"iOS18"', '"iOS9"')
    recipe = parse_target("mine", text).recipes["w4-palettized"]
    with pytest.raises(TargetError, match="iOS9"):
        coreml.parse_recipe(recipe, TARGET.graph, {**TARGET.convert, **recipe.convert})


def test_the_onnx_backend_refuses_a_recipe_that_it_does_not_have() -> None:
    target, recipe = load_target("onnx"), replace(TARGET.recipes["w8"], keep_float32=())
    with pytest.raises(TargetError, match="found int8 and float16") as caught:
        onnx.parse_recipe(recipe, target.graph, target.convert)
    assert "\n" not in str(caught.value)
