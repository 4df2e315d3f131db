"""The device script of ExecuTorch programs; the log is what executor_runner printed on a PC."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mobilesam_export.backends.device import DeviceSubject
from mobilesam_export.backends.executorch import android
from mobilesam_export.benchmark.device_results import FIRST_LINE, import_rows
from mobilesam_export.benchmark.row import Row
from mobilesam_export.contract import Contract
from mobilesam_export.errors import UsageError
from mobilesam_export.target import Tolerance, load_target

HEAD = f"{FIRST_LINE}\n# platform: android-executorch\n# subject: mine\n# device: Pixel 8\n"
SECTION = f"{HEAD}# section: encoder cpu\n"
LOADED = """I 00:00:00.001208 executorch:executor_runner.cpp:340] Resetting threadpool with 2
I 00:00:00.001341 executorch:cpuinfo_utils.cpp:87] Failed to open midr file /sys/devices/soc0
I 00:00:00.001738 executorch:executor_runner.cpp:476] Model file encoder.pte is loaded.
I 00:00:00.002880 executorch:executor_runner.cpp:624] Model loaded in 1.201102 ms.
"""
RUN = "I 00:00:00.004075 executorch:executor_runner.cpp:779] Iteration {} of 105: {:f} ms\n"
RUNS = [RUN.format(1, 900.0), *(RUN.format(i, 700 - i) for i in range(2, 106))]
LOG = LOADED + "".join(RUNS)
MISMATCH = (
    "E 00:00:00.006934 executorch:inputs.cpp:178] input size (4) and tensor size (192) mismatch!\n"
    "F 00:00:00.006938 executorch:executor_runner.cpp:751] In function main(), assert failed "
    "(res.ok()): Could not prepare inputs: 0x12\nAborted\n"
)
ADB = """#!/bin/sh
# A device that is the folder phone; what it computes lies in answers.
verb=$1
shift
case $verb in
  push) cp "$1" phone/ ;;
  pull) cp "phone/$(basename "$1")" "$2" 2>/dev/null ;;
  shell)
    case "$*" in
      getprop*) echo Pixel ;;
      "rm -f"*) rm -f "phone/$(basename "$3")" ;;
      *--model_path*) echo "$*" >> calls; cat log; cp answers/* phone/ 2>/dev/null || exit 1 ;;
    esac ;;
esac
"""


def rows(folder: Path, text: str) -> list[Row]:
    (folder / "results.txt").write_text(text)
    return import_rows(folder / "results.txt")


def subject(bundle: Path, delegate: str) -> DeviceSubject:
    contract = Contract(256, 6, load_target("executorch").graph)
    tolerance, convert = Tolerance(42, 1, 1, 1), {"delegate": delegate}
    return DeviceSubject("it's mine", bundle, contract, tolerance, 0.5, convert)


@pytest.fixture
def script(onnx_bundle: Path, tmp_path: Path) -> Path:
    """The folder of a script for a bundle whose vectors are those of an ONNX one, and an adb."""
    bundle = tmp_path / "bundle"
    shutil.copytree(onnx_bundle / "golden", bundle / "golden")
    for name in ("encoder", "decoder"):
        (bundle / f"{name}.pte").write_bytes(name.encode())
    for name in ("script", "phone", "answers"):
        (tmp_path / name).mkdir()
    (tmp_path / "adb").write_text(ADB)
    (tmp_path / "adb").chmod(0o755)
    (tmp_path / "log").write_text(LOG)
    (tmp_path / "tool").touch()
    android.write(subject(bundle, "xnnpack"), tmp_path / "script")
    return tmp_path / "script"


def run(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "script/run.sh", "tool", "out.txt"],
        cwd=script.parent,
        env={"PATH": f"{script.parent}:/usr/bin:/bin", "COOL_DOWN_S": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_answers_are_held_to_the_golden_vectors(script: Path) -> None:
    answers, golden = script.parent / "answers", script / "golden"
    embeddings = np.fromfile(golden / "encoder.float32", np.float32)
    (embeddings * 1.0001).tofile(answers / "encoder-0.bin")
    masks = np.fromfile(golden / "decoder.float32", np.float32)
    masks[7] += 0.75
    masks.tofile(answers / "decoder-0.bin")
    done = run(script)
    assert done.returncode == 0, done.stderr
    encoder, decoder = import_rows(script.parent / "out.txt")
    assert (encoder.subject, encoder.machine) == ("it's mine", "Pixel Pixel, Pixel")
    assert (encoder.component, encoder.device) == ("encoder", "android-cpu")
    assert (encoder.threads, encoder.runtime) == (4, "ExecuTorch executor_runner")
    assert encoder.answers == "right"
    assert decoder.answers.startswith("off by up to 0.75, PSNR ")
    assert decoder.wrong


@pytest.mark.parametrize("damage", ["a short answer", "not a number"])
def test_an_answer_that_cannot_be_compared_is_wrong(damage: str, script: Path) -> None:
    answers = script.parent / "answers"
    for name in ("encoder", "decoder"):
        values = np.fromfile(script / "golden" / f"{name}.float32", np.float32)
        values[5] = np.nan
        (values[:5] if damage == "a short answer" else values).tofile(answers / f"{name}-0.bin")
    run(script)
    said = [row.answers for row in import_rows(script.parent / "out.txt")]
    assert said == 2 * ["value 6 is no number or is not there"]


def test_an_answer_of_an_earlier_run_is_not_taken(script: Path) -> None:
    shutil.copy(script / "golden" / "encoder.float32", script.parent / "phone" / "encoder-0.bin")
    (script.parent / "log").write_text(MISMATCH)
    done = run(script)
    assert done.returncode == 1
    assert "failed at least once" in done.stderr
    encoder, _ = import_rows(script.parent / "out.txt")
    assert (encoder.latency, encoder.answers) == (None, "not checked")
    assert "tensor size (192) mismatch!; the log ends with: Aborted" in encoder.unverified


def test_the_runner_gets_the_inputs_in_the_order_of_the_graph(script: Path) -> None:
    shutil.copy(script / "golden" / "encoder.float32", script.parent / "answers" / "encoder-0.bin")
    run(script)
    encoder, decoder = (script.parent / "calls").read_text().splitlines()
    remote = "/data/local/tmp/mobilesam-export"
    assert f"--inputs={remote}/image.uint8 " in encoder
    names = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
    assert f"--inputs={','.join(f'{remote}/{name}.float32' for name in names)} " in decoder
    assert "--method_name=forward" in decoder
    mask = np.fromfile(script / "golden" / "mask_input.float32", np.float32)
    assert mask.shape == (64 * 64,)
    assert not mask.any()
    for path in (script / "run.sh", script / "README.md"):
        assert "@" not in path.read_text(), path


def test_a_program_for_vulkan_is_timed_on_the_gpu(script: Path) -> None:
    folder = script.parent / "vulkan"
    folder.mkdir()
    android.write(subject(script.parent / "bundle", "vulkan"), folder)
    assert "# section: $component gpu" in (folder / "run.sh").read_text()
    assert "-DEXECUTORCH_BUILD_VULKAN=ON" in (folder / "README.md").read_text()


def test_a_program_for_core_ml_has_no_script_for_android(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for the Core ML delegate, which Android lacks: run"):
        android.write(subject(tmp_path, "coreml"), tmp_path)


def test_the_first_run_is_cold_and_the_next_four_do_not_count(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, SECTION + LOG + "# answers: right\n")
    assert (row.load_ms, row.cold_ms) == ((1.201102,), (900.0,))
    assert row.times_ms == tuple(float(700 - i) for i in range(6, 106))
    assert row.latency is not None
    assert (row.latency.rounds, row.latency.median_ms) == (100, 644.5)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "executor_runner printed nothing"),
        ("ERROR: unknown command line flag 'print_output'\n", "unknown command line flag 'print_o"),
        (LOADED + MISMATCH, "input size (4) and tensor size (192) mismatch!; the log ends with: A"),
        (LOADED + "".join(RUNS[:50]) + "Killed\n", "it ended after 50 runs: Killed"),
        ("# answers: right\n", "logged no times: use 1.3 or newer, built with EXECUTORCH_ENABLE_L"),
    ],
)
def test_a_section_without_a_time_says_why(log: str, said: str, tmp_path: Path) -> None:
    (row,) = rows(tmp_path, SECTION + log)
    assert row.latency is None
    assert said in row.unverified
