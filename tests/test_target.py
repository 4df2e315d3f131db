"""Target files: what is in ours, and what is refused in anyone's."""

from importlib import resources
from pathlib import Path

import pytest

from mobilesam_export.backends import get_backend
from mobilesam_export.errors import TargetError
from mobilesam_export.target import builtin_targets, load_target, parse_target

GOOD = resources.files("mobilesam_export.targets").joinpath("onnx.toml").read_text()


def test_the_targets_of_the_package_are_found() -> None:
    assert builtin_targets() == ["coreml", "onnx", "onnx-sam", "tflite", "tflite-gpu"]


@pytest.mark.parametrize("name", builtin_targets())
def test_every_target_loads_and_its_backend_takes_every_recipe(name: str) -> None:
    target = load_target(name)
    backend = get_backend(target.backend)
    for recipe in target.recipes.values():
        backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})
    assert target.recipe(None)[0] == target.default_recipe


def test_a_path_works_wherever_a_name_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_target(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('backend = "onnx"', 'backend = "onnx"\nopsett = 1', "unknown key 'opsett'"),
        ('pixels = "uint8"', 'pixels = "uint8"\nlayuot = "x"', "unknown key 'layuot'"),
        ("mask_iou = 0.999", "mask_iuo = 0.999", "unknown key 'mask_iuo'"),
        ('weights = "float32"', 'wieghts = "float32"', "unknown key 'wieghts'"),
        ('backend = "onnx"', "", "missing key 'backend'"),
        ("mask_iou = 0.999", "", "missing key 'mask_iou'"),
        ("mask_iou = 0.999", 'mask_iou = "high"', "expected float"),
        ('pixels = "uint8"', 'pixels = "int8"', "expected one of: uint8"),
        ('weights = "float32"', 'weights = "float64"', "expected one of: float32"),
        ('default_recipe = "float32"', 'default_recipe = "w2"', "default_recipe is 'w2'"),
        ('backend = "onnx"', "backend = 3", "expected str"),
        ('keep_float32 = ["PointTokens", "PixelsInput"]', 'keep_float32 = "all"', "list of str"),
        ("[graph]", "[graph", "not valid TOML"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(TargetError, match=message.replace("[", r"\[")):
        parse_target("mine", GOOD.replace(old, new, 1))


def test_a_target_needs_a_recipe() -> None:
    with pytest.raises(TargetError, match="at least one"):
        parse_target("mine", GOOD.partition("[recipe")[0])
