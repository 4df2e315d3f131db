"""What a user sees of the installed program when all goes well."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.scenes import scene
from tests.cli_runner import TMP, USAGE, snapshot, warm
from tests.conftest import STUDENT
from tests.fault_points import reuse_files

PROGRAM = Path(sys.executable).with_name("mobilesam-export")


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [[], ["distill"]], ids=["all", "distill"])
def test_help_does_not_import_what_is_heavy(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['mobilesam-export', *{command}, '--help']\n"
        "from mobilesam_export.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as done: print(done.code)\n"
        "heavy = {'torch', 'numpy', 'onnx', 'coremltools', 'rich', 'importlib.metadata'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.splitlines()[-2:] == ["0", "[]"]


def test_only_core_ml_packages_need_coremltools_to_be_inspected() -> None:
    code = (
        "import sys, pathlib\n"
        "from mobilesam_export.bundle.describe import inspect_path\n"
        "try: inspect_path(pathlib.Path('gone.onnx'))\n"
        "except Exception as exc: print(exc)\n"
        "print('coremltools' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.splitlines() == ["gone.onnx does not exist", "False"]


@pytest.mark.parametrize("group", [(), ("checkpoint",)])
def test_a_group_alone_shows_its_help_whose_lines_are_whole(group: tuple[str, ...]) -> None:
    result = run(*group)
    assert result.returncode == USAGE
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: mobilesam-export")
    assert "..." not in result.stderr.partition("Commands:")[2]


def test_version_is_the_package_s() -> None:
    assert "0.1.0" in run("--version").stdout


def test_targets_lists_recipes_and_whether_files_run_here() -> None:
    listed = json.loads(run("targets", "--json").stdout)["targets"]
    assert [row["target"] for row in listed] == [
        "coreai",
        "coreai-segmenter",
        "coreml",
        "executorch",
        "onnx",
        "onnx-sam",
        "tflite",
        "tflite-gpu",
    ]
    assert listed[4]["default_recipe"] == "float32"
    assert listed[4]["unavailable"] == ""
    shown = run("targets").stdout
    assert "recipes: float32 (default), float16" in shown


def test_verify_passes_a_good_bundle(onnx_bundle: Path) -> None:
    done = run("verify", onnx_bundle, "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)["verification"]
    assert report["status"] == "passed"
    assert report["runtime"].startswith("ONNX Runtime")
    assert min(item["mask_iou"] for item in report["prompts"]) >= 0.999


@pytest.mark.parametrize("fixture", ["onnx_bundle", "onnx_sam_bundle", "coreml_bundle"])
@pytest.mark.parametrize(
    "prompt",
    [
        ["--point", "30,40"],
        ["--point", "30,40,1", "--point", "70,20,0"],
        ["--box", "10,10,80,50"],
        ["--box", "10,10,80,50", "--point", "40,30"],
    ],
    ids=["click", "clicks", "box", "box and click"],
)
def test_segment_writes_a_mask_of_the_image_s_size(
    fixture: str, prompt: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    Image.fromarray(scene(3, 60, 90)).save(tmp_path / "photo.png")
    bundle = request.getfixturevalue(fixture)
    outputs = ["-o", "m.png", "--overlay", "o.png", "--json"]
    done = warm(tmp_path, ["segment", bundle, "photo.png", *prompt, *outputs])
    assert done.code == 0, done.stderr
    answer = json.loads(done.stdout)
    mask = np.asarray(Image.open(tmp_path / "m.png"))
    assert mask.shape == (60, 90)
    assert mask.mean() == pytest.approx(answer["share"])
    assert np.asarray(Image.open(tmp_path / "o.png")).shape == (60, 90, 3)
    assert snapshot(tmp_path).keys() == {"m.png", "o.png", "photo.png", TMP}


def test_both_onnx_targets_give_the_same_mask(
    onnx_bundle: Path, onnx_sam_bundle: Path, tmp_path: Path
) -> None:
    """A square image has no padding, and so not even the fill color is between them."""
    Image.fromarray(scene(3, 80, 80)).save(tmp_path / "photo.png")
    for name, bundle in (("a.png", onnx_bundle), ("b.png", onnx_sam_bundle)):
        run("segment", bundle, "photo.png", "--point", "30,40", "-o", name, cwd=tmp_path)
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (first == second).mean() > 0.999


def test_results_go_to_stdout_and_progress_to_stderr(onnx_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(scene(3, 60, 90)).save(tmp_path / "p.png")
    done = run("segment", onnx_bundle, "p.png", "--point", "30,40", cwd=tmp_path)
    assert done.stdout.startswith("mask.png: ")
    assert done.stdout.count("\n") == 1
    assert "Encoding the image" in done.stderr
    assert "not trained" in done.stderr


def test_no_verify_says_so_in_the_result_and_the_manifest(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    options = ["-c", f"{STUDENT}:7", "--image-size", "320", "--points", "2", "--no-verify"]
    arguments = ["onnx", *options, "-o", "out", "--json"]
    done = warm(tmp_path, arguments, before=[partial(reuse_files, onnx_bundle)])
    assert done.code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["verification"]["status"] == "unverified"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["verification"]["reason"] == "--no-verify was given"
    assert manifest["contract"]["points"] == 2
    assert manifest["checkpoint"]["source"] == f"{STUDENT}:7"
