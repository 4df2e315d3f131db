"""Bundles run by the ARM builds of their runtimes, under emulation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.commands.verify import verify_command
from mobilesam_export.errors import BackendError
from mobilesam_export.metrics import psnr_db
from mobilesam_export.prompts import encoder_inputs
from mobilesam_export.proof import arm
from tests.cli_runner import USAGE, cold, error_line

ROOT = Path(__file__).parents[1]
needs_arm = pytest.mark.skipif(
    not (ROOT / arm.FOLDER / arm.EMULATOR).is_file(), reason="no emulator: run `make arm`"
)


@needs_arm
def test_int8_kernels_of_phones_agree_with_those_here(
    export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    opened = open_bundle(export("onnx", "-c", "demo", "-r", "w8-dynamic", "--image-size", "256"))
    case = golden.read(opened.folder / "golden")[0]
    inputs = encoder_inputs(case.image, opened.contract)
    here = opened.session("encoder").run(inputs)["image_embeddings"]
    with arm.sessions(opened.folder, "cortex-a76") as (encoder, _):
        there = encoder.run(inputs)["image_embeddings"]
    assert "cortex-a76" in encoder.runtime
    assert abs(psnr_db(there, case.embeddings) - psnr_db(here, case.embeddings)) < 1


@needs_arm
def test_verify_reports_the_processor(tflite_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two: each takes half a minute of emulation."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(arm, "MODELS", {"cortex-a76": arm.MODELS["cortex-a76"]})
    result = CliRunner().invoke(verify_command, [str(tflite_bundle), "--arm", "--json"])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    (report,) = printed["arm"].values()
    assert "cortex-a76" in report["runtime"]
    assert report["status"] == "passed"
    here, there = (
        min(item["psnr_db"] for item in found["embeddings"])
        for found in (printed["verification"], report)
    )
    assert abs(there - here) < 1


def test_without_an_emulator_the_command_says_what_to_type(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    result = cold(tmp_path, ["verify", onnx_bundle, "--arm"])
    assert result.code == USAGE
    assert "make arm" in error_line(result.stderr)


def test_a_backend_without_an_arm_build_is_named() -> None:
    assert "no ARM build of" in arm.why_unavailable(get_backend("coreml"))


@needs_arm
def test_a_file_that_the_arm_build_refuses_is_named(
    onnx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(onnx_bundle, broken)
    (broken / "decoder.onnx").write_bytes(b"no model")
    monkeypatch.chdir(ROOT)
    with (
        pytest.raises(BackendError, match="the ARM build refuses the file"),
        arm.sessions(broken, "cortex-a76"),
    ):
        pass


@needs_arm
def test_a_process_that_ends_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with (
        pytest.raises(BackendError, match="the emulated process ended"),
        arm.sessions(tmp_path / "nothing", "no-such-processor"),
    ):
        pass
