"""Whoever reads our output may stop reading, as `head -1` does, and the disk behind it be full."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mobilesam_export.target import builtin_targets
from tests.cli_runner import FAILED, SCRIPT, TIMEOUT_S
from tests.test_bad_input_bundle import vouch

FULL = Path("/dev/full")
QUICK = ["--rounds", "1", "--warmup", "0", "--loads", "1", "--threads", "1"]


def without_reader(arguments: Sequence[object], folder: Path) -> tuple[int, str]:
    """Exit code and stderr of the installed program, whose stdout nobody reads."""
    process = subprocess.Popen(
        [*SCRIPT, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()  # before the first line: importing the program takes longer than this
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stderr


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    assert without_reader(arguments, tmp_path) == (0, "")


def test_head_gets_its_line_and_the_rest_is_quiet(tmp_path: Path) -> None:
    pipe = f"set -o pipefail; '{SCRIPT[0]}' targets | head -1"
    done = subprocess.run(
        ["bash", "-c", pipe], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{builtin_targets()[0]}: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_work_is_finished_and_its_exit_code_kept(onnx_bundle: Path, tmp_path: Path) -> None:
    """Files are written and a wrong answer is still a failure where nobody reads the table."""
    bundle = Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))
    path = bundle / "golden" / "landscape" / "encoder" / "image_embeddings.float32"
    (-np.fromfile(path, np.float32)).tofile(path)
    vouch(bundle, "golden/landscape/encoder/image_embeddings.float32")
    one = ["benchmark", bundle, *QUICK, "--component", "encoder", "--save", "kept.json"]
    code, stderr = without_reader(one, tmp_path)
    assert code == FAILED, stderr
    assert (
        "embedding PSNR" in json.loads((tmp_path / "kept.json").read_text())["rows"][0]["answers"]
    )


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*SCRIPT, "targets"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write the result: No space left on device\n"
