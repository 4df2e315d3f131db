"""The wheel works outside the checkout: targets, templates and the console script are in it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import WEIGHTS

EXPORT = ["onnx", "-c", WEIGHTS, "--image-size", "256", "-o", "bundle"]


def test_wheel_has_targets_and_templates_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "mobilesam_export/targets/coreml.toml" in names
    assert "mobilesam_export/bundle/templates/README.md" in names
    assert "mobilesam_export/backends/coreml/device/LatencyTests.swift" in names
    assert "mobilesam_export/checkpoint/demo.safetensors" in names
    assert wheel.stat().st_size <= 25e6
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "targets"))]


@pytest.fixture(scope="module")
def exported(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle from a process that finds the wheel's files before the checkout's; its stdout."""
    folder = tmp_path_factory.mktemp("installed")
    site, work = folder / "site", folder / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = "import mobilesam_export.targets as t; print(t.__file__)"
    found = subprocess.check_output(
        [sys.executable, "-c", where], cwd=work, env=environment, text=True
    )
    assert found.startswith(str(site))
    done = subprocess.run(
        [sys.executable, "-m", "mobilesam_export", *EXPORT],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return work / "bundle", done.stdout


def test_an_installed_wheel_exports_outside_the_checkout(exported: tuple[Path, str]) -> None:
    _, stdout = exported
    assert "verified (ONNX Runtime" in stdout


def test_a_second_export_gives_the_same_bytes(
    exported: tuple[Path, str], onnx_bundle: Path
) -> None:
    first, second = (
        json.loads((folder / "manifest.json").read_text())["files"]
        for folder in (onnx_bundle, exported[0])
    )
    assert first == second
