"""What `pip install "mobilesam-export[run]"` can do, in an environment of its own without torch.

The first run makes the environment in build/; after that, only this checkout's wheel is new in it.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from mobilesam_export.scenes import scene
from tests.cli_runner import ERROR, FAILED, Result, assert_refused, environment, warm
from tests.conftest import ROOT

HEAVY = ("torch", "scipy", "coremltools", "litert_torch", "safetensors")


@pytest.fixture(scope="session")
def python(wheel: Path) -> Path:
    """A Python that has this package with its extra `run` and nothing else."""
    folder = ROOT / "build" / "run-extra"
    folder.parent.mkdir(exist_ok=True)
    program = folder / "bin" / "python"
    pip = [str(program), "-m", "pip", "install", "--quiet"]
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = json.dumps([metadata["dependencies"], metadata["optional-dependencies"]["run"]])
    ready = folder / hashlib.sha256(wanted.encode()).hexdigest()
    with FileLock(folder.with_suffix(".lock")):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([*pip, f"{wheel}[run]"], check=True, capture_output=True)
            ready.touch()
        subprocess.run(
            [*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True, capture_output=True
        )
    return program


def run(python: Path, folder: Path, *arguments: object) -> Result:
    """The program of that environment; `warm` is the one with torch."""
    done = subprocess.run(
        [str(python), "-m", "mobilesam_export", *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=["onnx_bundle", "tflite_bundle"])
def bundle(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_torch_is_not_there(python: Path) -> None:
    code = f"import importlib.util as u; print([m for m in {HEAVY} if u.find_spec(m)])"
    assert subprocess.check_output([str(python), "-c", code], text=True).strip() == "[]"


def test_segment_gives_the_mask_that_it_gives_with_torch(
    python: Path, bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(3, 300, 400)).save(tmp_path / "photo.png")
    arguments = ["segment", bundle, "photo.png", "--point", "150,160"]
    done = run(python, tmp_path, *arguments, "-o", "without.png", "--overlay", "overlay.png")
    assert done.code == 0, done.stderr
    assert warm(tmp_path, [*arguments, "-o", "with.png"]).code == 0
    masks = [np.asarray(Image.open(tmp_path / name)) for name in ("without.png", "with.png")]
    assert masks[0].shape == (300, 400)
    assert np.array_equal(masks[0], masks[1])


def test_inspect_says_the_same_as_with_torch(python: Path, bundle: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "inspect", bundle, "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [graph["file"].partition(".")[0] for graph in found["graphs"]] == ["encoder", "decoder"]
    assert found == json.loads(warm(tmp_path, ["inspect", bundle, "--json"]).stdout)


def test_verify_checks_hashes_and_calls_the_rest_unverified(
    python: Path, bundle: Path, tmp_path: Path
) -> None:
    done = run(python, tmp_path, "verify", bundle)
    assert done.code == FAILED
    assert "unverified: hashes are right, but torch, safetensors, scipy" in done.stdout
    assert 'are not installed: pip install "mobilesam-export[torch]"' in done.stdout


def test_verify_finds_damage_without_torch(python: Path, onnx_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(onnx_bundle, tmp_path / "copy"))
    (copy / "decoder.onnx").write_bytes(b"something else")
    phrases = ["copy is damaged: decoder.onnx"]
    assert_refused(run(python, tmp_path, "verify", "copy"), ERROR, phrases)


MISSING = {
    "coreai": (["coreai", "-c", "demo"], ["cannot export coreai: torch, coreai", "[coreai]"]),
    "coreml": (["coreml", "-c", "demo"], ["cannot export coreml", "[coreml]"]),
    "executorch": (
        ["executorch", "-c", "demo"],
        ["cannot export executorch: torch, executorch are not", "[executorch]"],
    ),
    "onnx": (
        ["onnx", "-c", "demo"],
        ["cannot export onnx: torch, onnxscript, onnxsim are not", "[onnx]"],
    ),
    "tflite": (["tflite", "-c", "demo"], ["cannot export tflite: torch, litert_torch", "[tflite]"]),
    "all": (["all", "-c", "demo"], ["cannot export coreml", "[coreml]"]),
    "checkpoint": (["checkpoint", "inspect", "x.pt"], ["torch is not installed", "[torch]"]),
    "sensitivity": (["inspect", "BUNDLE", "--sensitivity"], ["torch is not installed", "[torch]"]),
    "asset": (["inspect", "x.aimodel"], ["coreai is not installed", "[coreai]"]),
    "program": (["inspect", "x.pte"], ["executorch is not installed", "[executorch]"]),
    "package": (["inspect", "x.mlpackage"], ["coremltools, torch are not", "[coreml]"]),
    "reference": (["evaluate", "BUNDLE", "--pytorch"], ["is not installed", "[torch]"]),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_one_line_that_says_what_to_type(
    name: str, python: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    arguments, phrases = MISSING[name]
    for folder in ("x.aimodel", "x.mlpackage", "x.pte"):
        (tmp_path / folder).mkdir()
    given = [str(onnx_bundle) if word == "BUNDLE" else word for word in arguments]
    done = run(python, tmp_path, *given)
    assert_refused(done, ERROR, [*phrases, 'pip install "mobilesam-export['])


def test_targets_says_which_files_can_be_run(python: Path, tmp_path: Path) -> None:
    rows = json.loads(run(python, tmp_path, "targets", "--json").stdout)["targets"]
    reasons = {row["target"]: row["unavailable"] for row in rows}
    assert reasons["onnx"] == reasons["tflite"] == ""
    assert "pip install" in reasons["coreml"]
