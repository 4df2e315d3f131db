"""CONTRIBUTING.md and SECURITY.md: the toy backend works as written, and named files exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mobilesam_export.images import MAX_PIXELS
from tests.cli_runner import environment

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
FILE = re.compile(r"^`([\w./]+)`:\n\n(`{3,4})\w*\n(.*?)^\2$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"`((?:mobilesam_export|tests|targets|benchmarks)/[\w./]+)`")
# One process for all commands: each would import torch anew.
ALL_IN_ONE = """
import json, sys
from mobilesam_export.cli import cli
for arguments in json.loads(sys.argv[1]):
    code = cli.main(arguments, standalone_mode=False)
    assert code == 0, (arguments, code)
"""


def toy_files() -> dict[str, str]:
    return {name: content for name, _, content in FILE.findall(TEXT)}


def toy_commands() -> list[list[str]]:
    lines = re.findall(r"^mobilesam-export (.*)$", TEXT.replace("\\\n", " "), re.MULTILINE)
    return [line.split() for line in lines]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder, its package installed into `site` below it, without a network."""
    folder = tmp_path_factory.mktemp("toy")
    for name, content in toy_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--target", "site", "."]
    subprocess.run([*pip, *options], cwd=folder, check=True, capture_output=True)
    return folder


def test_the_toy_backend_exports_verifies_and_segments_as_written(toy: Path) -> None:
    variables = {**environment(toy), "PYTHONPATH": str(toy / "site")}
    command = [sys.executable, "-c", ALL_IN_ONE, json.dumps(toy_commands())]
    done = subprocess.run(
        command, cwd=toy, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "verified (PyTorch " in done.stdout
    assert "encoder.pt2: PyTorch exported program" in done.stdout
    assert (toy / "mask.png").is_file()
    bundle = toy / "build" / "toy-float32"
    assert json.loads((bundle / "manifest.json").read_text())["backend"] == "toy"
    assert "**Needs PyTorch.**" in (bundle / "README.md").read_text().partition("| file")[0]


def test_named_files_exist() -> None:
    names = [name for name in OURS.findall(TEXT) if "NAME" not in name and "TARGET" not in name]
    assert len(names) >= 10
    assert not [name for name in names if not (ROOT / name).exists()]


def test_the_limit_of_images_is_the_code_s() -> None:
    text = (ROOT / ".github" / "SECURITY.md").read_text()
    assert f"over {MAX_PIXELS // 1_000_000} megapixels" in text
