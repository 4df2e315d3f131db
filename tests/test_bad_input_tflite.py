"""TFLite bundles with damaged or foreign files, recipes that cannot be, images that are none."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.backends.tflite import model_file
from tests.cli_runner import ERROR, error_line, refused, refused_cold, warm
from tests.conftest import WEIGHTS
from tests.test_bad_input_bundle import vouch
from tests.tflite_files import Op, make_file

EXPORTED = ("tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")


@pytest.fixture
def bundle(export: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(export(*EXPORTED), tmp_path / "bundle"))


def cut(bundle: Path) -> None:
    path = bundle / "encoder.tflite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(bundle: Path) -> None:
    encoder, decoder = bundle / "encoder.tflite", bundle / "decoder.tflite"
    encoder.rename(bundle / "aside")
    decoder.rename(encoder)
    (bundle / "aside").rename(decoder)


def no_signature(bundle: Path) -> None:
    path = bundle / "encoder.tflite"
    model = model_file.read(path.read_bytes())
    model.signatureDefs = []
    path.write_bytes(model_file.write(model))


def foreign(bundle: Path) -> None:
    (bundle / "encoder.tflite").write_bytes(b"PK\x03\x04 and so on")


def other_shapes(bundle: Path) -> None:
    tensors: dict[str, Any] = {
        "image": (1, 8, 8, 3),
        "axis": np.array([3], np.int32),
        "image_embeddings": (1, 8, 8, 1),
    }
    mean = ("ReducerOptions", {"keepDims": True})
    ops = [Op("MEAN", ["image", "axis"], ["image_embeddings"], mean)]
    make_file(bundle / "encoder.tflite", tensors, ops)


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "cut": (cut, ["cannot load", "encoder.tflite"]),
    "swapped": (swap, ["no signature 'encoder'", "it has: decoder", "export it again"]),
    "no signature": (no_signature, ["no signature 'encoder'", "it has: none"]),
    "foreign": (foreign, ["cannot load", "encoder.tflite"]),
    "other shapes": (other_shapes, ["image is (1, 8, 8, 3) float32", "expected (1, 256, 256, 3)"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_vouched_for_file_that_is_wrong(name: str, bundle: Path, tmp_path: Path) -> None:
    damage, phrases = DAMAGE[name]
    image = shutil.copy(bundle / "golden" / "landscape" / "image.png", tmp_path)
    damage(bundle)
    vouch(bundle, "encoder.tflite", "decoder.tflite")
    refused(tmp_path, ["segment", "bundle", image, "--point", "1,1"], ERROR, phrases)


@pytest.mark.parametrize(("target", "recipe"), [("tflite", "w4"), ("tflite-gpu", "w8a8")])
def test_a_recipe_that_the_target_lacks(target: str, recipe: str, tmp_path: Path) -> None:
    phrases = [f"target {target} has no recipe {recipe!r}", "it has: float32, float16"]
    refused_cold(tmp_path, [target, "-c", WEIGHTS, "-r", recipe], ERROR, phrases)


STATIC = ["tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "w8a8", "--calibration", "mine"]


def test_too_few_images_to_calibrate_on(tmp_path: Path) -> None:
    refused(tmp_path, STATIC, ERROR, ["mine is not a folder"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    refused(tmp_path, STATIC, ERROR, ["mine has no image", "at least 4"])


def test_images_that_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / "mine" / f"{number}.png")
    refused(tmp_path, STATIC, ERROR, ["mine/0.png is of one color", "replace it"])
    (tmp_path / "mine" / "0.png").write_bytes(b"no image")
    refused(tmp_path, STATIC, ERROR, ["mine/0.png"])


def test_an_exception_that_fits_no_weight(tmp_path: Path) -> None:
    text = Path(__file__).parents[1].joinpath("targets", "tflite.toml").read_text()
    assert '"stem" = "float32"' in text
    (tmp_path / "mine.toml").write_text(text.replace('"stem"', '"trunk"'))
    arguments = ["run", "mine.toml", "-c", WEIGHTS, "--image-size", 256, "-r", "w8a8"]
    result = warm(tmp_path, arguments)
    assert result.code == ERROR
    assert "'trunk' matches no weight of the encoder" in error_line(result.stderr)
