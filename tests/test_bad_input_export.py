"""Targets, sizes, options and places that cannot be: one line before any work is done."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli_runner import (
    ERROR,
    FAILED,
    MODULE,
    PROGRESS,
    USAGE,
    assert_same,
    environment,
    error_line,
    refused,
    refused_cold,
    snapshot,
    warm,
)
from tests.conftest import WEIGHTS
from tests.fault_points import reuse_files

TARGETS = Path(__file__).parents[1] / "targets"
ONNX = (TARGETS / "onnx.toml").read_text(encoding="utf-8")
TFLITE = (TARGETS / "tflite.toml").read_text(encoding="utf-8")
COREML = (TARGETS / "coreml.toml").read_text(encoding="utf-8")
SMALL = ("-c", WEIGHTS, "--image-size", 256)


def change(old: str, new: str, text: str = ONNX) -> str:
    """A target's text with something else in it."""
    assert old in text
    return text.replace(old, new, 1)


# Read with nothing but the text: refused before torch is imported.
TEXTS = {
    "empty": ("", "needs at least one [recipe.NAME] table"),
    "no TOML": ("backend: onnx\n", "not valid TOML"),
    "unknown key": ("colour = 1\n" + ONNX, "unknown key 'colour'; known keys: "),
    "name": ('name = "../../etc"\n' + ONNX, "unknown key 'name'"),
    "recipes": ("recipes = 5\n" + ONNX, "unknown key 'recipes'"),
    "unknown graph key": (change("[graph]", '[graph]\ngelus = "x"'), "unknown key 'gelus'"),
    "unknown recipe key": (change("weights =", "wieghts ="), "unknown key 'wieghts'"),
    "unknown tolerance key": (change("mask_iou =", "mask_uio ="), "unknown key 'mask_uio'"),
    "missing key": (change('backend = "onnx"', ""), "missing key 'backend'"),
    "missing tolerance": (change("mask_iou = 0.999", ""), "missing key 'mask_iou'"),
    "missing graph": (re.sub(r"\[graph\].*?\n\n", "", ONNX, flags=re.S), "missing key 'graph'"),
    "number for text": (change('"onnx"', "5"), "backend: expected str, found 5"),
    "text for number": (change("mask_iou = 0.999", 'mask_iou = "1"'), "expected float, found '1'"),
    "yes for number": (change("mask_iou = 0.999", "mask_iou = true"), "expected float, found True"),
    "text for list": (
        change('["PointTokens", "PixelsInput", "neck.2"]', '"x"'),
        "a list of strings",
    ),
    "graph is no table": ("graph = 5\n" + change("[graph]", "[convert.graph]"), "graph: expected"),
    "recipe is no table": ("recipe = 5\n" + ONNX.partition("[recipe")[0], "[recipe.NAME]"),
    "convert is no table": (
        "convert = 5\n" + re.sub(r"\[convert\]\nopset.*?\n", "", ONNX),
        "convert: expected a table, found 5",
    ),
    "default recipe": (change('recipe = "float32"', 'recipe = "w2"'), "default_recipe is 'w2'"),
    "layout": (change("channel-last", "sideways"), "graph.layout is 'sideways'; expected one of"),
    "image input": (change('"uint8"', '"int3"'), "graph.image_input is 'int3'; expected one of"),
    "prompt": (change('"slots"', '"words"'), "graph.prompt is 'words'; expected one of"),
    "precision": (change('weights = "float16"', 'weights = "w3"'), "weights is 'w3'"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_target_file_with_a_mistake(name: str, tmp_path: Path) -> None:
    text, phrase = TEXTS[name]
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    arguments = ["run", "mine.toml", "-c", "missing.pt"]
    refused_cold(tmp_path, arguments, ERROR, ["mine.toml", phrase])


def test_target_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(ONNX.encode("utf-16"))
    refused_cold(tmp_path, ["run", "mine.toml"], ERROR, ["mine.toml", "not UTF-8"])


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("nope", "no target 'nope'; there are: coreai, coreai-segmenter, coreml, executorch, onnx"),
        ("", "no target ''"),
        ("gone.toml", "cannot read target gone.toml: No such file"),
        ("folder.toml", "cannot read target folder.toml: Is a directory"),
    ],
)
def test_target_that_is_not_there(name: str, phrase: str, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    refused_cold(tmp_path, ["run", name], ERROR, [phrase], script=True)


# What only the backend can judge: the text, and phrases of the error.
CHOICES = {
    "backend": (change('"onnx"', '"tensorrt"'), "mine.toml, line 2: no backend 'tensorrt'"),
    "backend with a dot": (change('"onnx"', '"os.path"'), "no backend 'os.path'"),
    "backend without files": (change('"onnx"', '"reference"'), "no backend 'reference'"),
    "backend dunder": (change('"onnx"', '"__init__"'), "backend '__init__'"),
    "opset": (change("opset = 20", "opset = 5"), "opset is 5", "18 to 23"),
    "opset as text": (change("opset = 20", 'opset = "20"'), "opset = NUMBER", "'20'"),
    "opset as yes": (change("opset = 20", "opset = true"), "opset", "True"),
    "unknown option": (change("opset = 20", "opset = 20\nfuse = 1"), "opset = NUMBER", "fuse"),
    "system": (change('"iOS16"', '"iOS3"', COREML), "'iOS3'", "expected one of: iOS16"),
    "input of Core ML": (change('"image"', '"uint8"', COREML), 'image_input = "image"', "coreml"),
    "input of ONNX": (change('"uint8"', '"image"'), "image_input", "onnx"),
    "mixed": (change('activations = "float32"', 'activations = "float16"'), "both", "float16"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_target_that_its_backend_cannot_make(name: str, tmp_path: Path) -> None:
    text, *phrases = CHOICES[name]
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    refused(tmp_path, ["run", "mine.toml", *SMALL, "-o", "out"], ERROR, phrases)


# Words of a backend's own: what is put in front of a line of the text, and what is said of it.
OWN_WORDS = {
    "option": ("opset = 20", "fuse = 1", ONNX, "float32", "opset = NUMBER"),
    "option of one recipe": ("opset = 23", "fuse = 1", ONNX, "w8-dynamic", "opset = NUMBER"),
    "ONNX": ("gelu =", "speed = 1", ONNX, "w8-dynamic", "unknown key 'speed'"),
    "Core ML": ("[recipe.w8a8.tol", "quantize.speed = 1", COREML, "w8a8", "float_inputs.encoder"),
    "TFLite": ("other_constants =", "speed = 1", TFLITE, "w8-dynamic", "a quantize table"),
    "TFLite's op": ("decoder = []", 'encoder_stored = ["GELU"]', TFLITE, "w8a8", "GELU"),
}


@pytest.mark.parametrize("name", OWN_WORDS)
def test_word_that_no_backend_knows_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    place, word, text, recipe, phrase = OWN_WORDS[name]
    start = text.index(place, text.index(f"[recipe.{recipe}]") if recipe != "float32" else 0)
    if place.startswith("["):  # into the recipe's own table
        start = text.index("weights =", text.index(f"[recipe.{recipe}]"))
    (tmp_path / "mine.toml").write_text(f"{text[:start]}{word}\n{text[start:]}", encoding="utf-8")
    line = text[:start].count("\n") + 1
    arguments = ["run", "mine.toml", "-r", recipe, "-c", "missing.pt", "-o", "out"]
    phrases = [f"mine.toml, line {line}: recipe {recipe}: ", phrase]
    refused(tmp_path, arguments, ERROR, phrases)


def test_unknown_recipe(tmp_path: Path) -> None:
    phrases = ["target onnx has no recipe 'w3'", "float32, float16"]
    refused_cold(tmp_path, ["onnx", "-c", WEIGHTS, "-r", "w3"], ERROR, phrases)


def test_recipe_that_one_of_all_targets_lacks_is_refused_first(tmp_path: Path) -> None:
    """Before the checkpoint is even looked at, and so before others are exported."""
    phrases = ["onnx-sam has no recipe 'float16'"]
    refused(tmp_path, ["all", "-c", "missing.pt", "-r", "float16"], ERROR, phrases)


SIZES = [
    ("--image-size", "100", "image size is 100; expected a multiple of 64 from 256 to 4096"),
    ("--image-size", "300", "image size is 300"),
    ("--image-size", "192", "image size is 192"),
    ("--image-size", "0", "image size is 0"),
    ("--image-size", "-64", "image size is -64"),
    ("--image-size", "640000", "image size is 640000"),
    ("--points", "0", "points is 0; expected 2 (a box takes two) to 1024"),
    ("--points", "1", "points is 1; expected 2 (a box takes two) to 1024"),
    ("--points", "100000000", "points is 100000000"),
]


@pytest.mark.parametrize(("option", "value", "phrase"), SIZES)
def test_size_that_cannot_be(option: str, value: str, phrase: str, tmp_path: Path) -> None:
    """With a checkpoint that is not there, which must not be looked for first."""
    refused(tmp_path, ["onnx", "-c", "missing.pt", option, value], USAGE, [phrase])


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (
            ["onnx", "--image-size", "abc"],
            "'abc' is no size such as 1024 or 1024x768",
        ),
        (["onnx", "--image-size", "512.0"], "'512.0' is no size"),
        (["onnx", "--points", "x"], "'x' is not a valid int"),
        (["onnx", "--image-size"], "requires an argument"),
        (["onnx", "--sharpen"], "--sharpen"),
        (["onnx", "extra"], "extra"),
        (["onxx"], "onxx"),
        (["run"], "TARGET"),
        (["verify"], "BUNDLE"),
        (["checkpoint", "inspect"], "PATH"),
        (["checkpoint", "steal"], "steal"),
        (["segment", "bundle"], "IMAGE"),
    ],
)
def test_wrong_usage(arguments: list[str], phrase: str, tmp_path: Path) -> None:
    refused_cold(tmp_path, arguments, USAGE, [phrase, "--help"], script=True)


# Places. None of these may be written to; the checkpoint that is not there shows that the
# place was looked at first.


def a_file(out: Path) -> None:
    out.write_text("mine")


def a_link(out: Path) -> None:
    out.symlink_to("elsewhere")


def a_link_to_a_folder(out: Path) -> None:
    (out.parent / "real").mkdir()
    out.symlink_to("real")


def my_files(out: Path) -> None:
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "thesis.txt").write_text("years of work")


def my_manifest(out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text('{"name": "my web app"}')


def a_bundle_with_notes(out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text('{"tool": "mobilesam-export", "files": {}}')
    (out / ".notes").write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "phrases"),
    [
        (a_file, ["out exists and is not a folder", "--out"]),
        (a_link, ["out", "link", "--out"]),
        (a_link_to_a_folder, ["out", "link", "--out"]),
        (my_files, ["deep/thesis.txt", "did not write", "--out"]),
        (my_manifest, ["manifest.json", "did not write", "--out"]),
        (a_bundle_with_notes, [".notes", "did not write", "--out"]),
    ],
)
def test_place_that_is_taken(
    prepare: Callable[[Path], None], phrases: list[str], tmp_path: Path
) -> None:
    prepare(tmp_path / "out")
    refused(tmp_path, ["onnx", "-c", "missing.pt", "-o", "out"], ERROR, phrases)


def test_place_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    phrases = ["cannot write to", "file"]
    refused(tmp_path, ["onnx", *SMALL, "-o", "file/out"], ERROR, phrases)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no folders, not even from root")
def test_place_that_nobody_may_write_to(tmp_path: Path) -> None:
    refused(tmp_path, ["onnx", *SMALL, "-o", "/proc/out"], ERROR, ["cannot write to /proc"])


def test_name_that_is_too_long(tmp_path: Path) -> None:
    refused(tmp_path, ["onnx", *SMALL, "-o", "o" * 300], ERROR, ["cannot write", "too long"])


@pytest.mark.parametrize("place", ["", ".", ".."])
def test_place_that_is_where_one_stands(place: str, tmp_path: Path) -> None:
    """An empty working folder cannot be replaced while one is in it: said before the work."""
    stand = tmp_path / "here" / "inside"
    stand.mkdir(parents=True)
    refused(stand, ["onnx", "-c", "missing.pt", "-o", place], USAGE, ["--out", "working folder"])


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_full_disk(target: str, tmp_path: Path) -> None:
    """No file may pass 1 MB, which every encoder does."""
    arguments = [target, *SMALL, "--no-verify", "-o", "new/out"]
    before = snapshot(tmp_path)
    result = warm(tmp_path, arguments, file_limit=1_000_000)
    *progress, message = result.stderr.splitlines()
    assert all(PROGRESS.fullmatch(line) for line in progress), result.stderr
    assert result.code == ERROR
    assert message.startswith("Error: cannot write new/out: "), message
    assert "File too large" in message
    assert_same(tmp_path, {**before, "new": "folder"})


def test_files_that_fail_their_tolerance_are_not_kept(onnx_bundle: Path, tmp_path: Path) -> None:
    text = change("embedding_psnr_db = 100", "embedding_psnr_db = 1000")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    before = snapshot(tmp_path)
    arguments = ["run", "mine.toml", *SMALL, "-o", "out"]
    result = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert result.code == FAILED
    assert "nothing written, the files failed verification" in result.stdout
    assert "expected >= 1000" in result.stdout
    assert "Traceback" not in result.stderr
    assert_same(tmp_path, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_results_that_cannot_be_printed(tmp_path: Path) -> None:
    """A full disk behind `>`."""
    with Path("/dev/full").open("w") as stdout:
        done = subprocess.run(
            [*MODULE, "targets"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == ERROR
    assert "No space left on device" in error_line(done.stderr)
