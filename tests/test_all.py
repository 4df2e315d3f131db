"""`all`; first of all files by its name, so that other tests can use the bundles (see `export`)."""

import json
from functools import partial
from pathlib import Path

import pytest

from mobilesam_export.target import builtin_targets
from tests.cli_runner import Result, warm
from tests.conftest import ALL, DEFAULT, WEIGHTS
from tests.fault_points import hide

# Left out: they may not be installed, and where they are, they take a minute each.
EXTRAS = ("coreai", "executorch")  # modules and extras
OPTIONAL = {"coreai", "coreai-segmenter", "executorch"}
EXPORTED = [name for name in builtin_targets() if name not in OPTIONAL]


@pytest.fixture(scope="module")
def done(shared: Path) -> Result:
    """A run in a folder of its own, without the optional extras."""
    folder = shared / ALL
    folder.mkdir(exist_ok=True)
    return warm(
        folder, ["all", *DEFAULT, "--json"], before=[partial(hide, name) for name in EXTRAS]
    )


def test_all_exports_every_target(shared: Path, done: Result) -> None:
    assert done.code == 0, done.stderr
    made = {row["target"]: row["bundle"] for row in json.loads(done.stdout)["bundles"]}
    assert made == {
        "coreml": "build/coreml-float16",
        "onnx": "build/onnx-float32",
        "onnx-sam": "build/onnx-sam-float32",
        "tflite": "build/tflite-w8-dynamic",
        "tflite-gpu": "build/tflite-gpu-float16",
    }
    assert all((shared / ALL / bundle / "manifest.json").is_file() for bundle in made.values())


def test_every_target_is_verified_in_its_default_recipe(done: Result) -> None:
    reports = [row["verification"] for row in json.loads(done.stdout)["bundles"]]
    assert [report["status"] for report in reports] == ["passed"] * len(EXPORTED)


def test_exports_say_what_they_do_and_nothing_else(done: Result) -> None:
    """Nothing of what coremltools, onnxscript, TensorFlow, MLIR and LiteRT say."""
    lines = done.stderr.splitlines()
    skipped, rest = lines[: len(OPTIONAL)], lines[len(OPTIONAL) :]
    for name, line in zip(sorted(OPTIONAL), skipped, strict=True):
        assert line.startswith(f"note: {name} is left out: ")
    said = [line for line in rest if "float16" not in line]
    assert done.stderr.count("Computing them in pessimistic float16") == 2  # coreml, tflite-gpu
    assert said == len(EXPORTED) * [
        f"Loading the checkpoint ({WEIGHTS})",
        "Asking PyTorch for the expected answers",
        "Converting the encoder",
        "Converting the decoder",
        "Verifying the files against PyTorch",
    ]
