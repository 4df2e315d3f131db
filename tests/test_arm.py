"""Bundles run by the ARM builds of their runtimes, under emulation."""

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import golden, manifest
from mobilesam_export.bundle.manifest import open_bundle, read_manifest, record_arm
from mobilesam_export.commands.verify import verify_command
from mobilesam_export.contract import Array
from mobilesam_export.errors import BackendError, BundleError, OutputError
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam
from mobilesam_export.prompts import encoder_inputs
from mobilesam_export.proof import arm
from mobilesam_export.proof import bundle as proof
from mobilesam_export.session import Session
from mobilesam_export.verification.cases import ImageCase
from mobilesam_export.verification.status import Status
from tests.cli_runner import FAILED, USAGE, cold, error_line
from tests.conftest import DEFAULT

ROOT = Path(__file__).parents[1]
needs_arm = pytest.mark.skipif(
    not (ROOT / arm.FOLDER / arm.EMULATOR).is_file(), reason="no emulator: run `make arm`"
)


@needs_arm
def test_int8_kernels_of_phones_agree_with_those_here(
    export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    opened = open_bundle(export("onnx", *DEFAULT, "-r", "w8-dynamic", "--no-verify"))
    case = golden.read(opened.folder / "golden")[0]
    inputs = encoder_inputs(case.image, opened.contract)
    here = opened.session("encoder").run(inputs)["image_embeddings"]
    with arm.sessions(opened.folder, "cortex-a76") as (encoder, _):
        there = encoder.run(inputs)["image_embeddings"]
    assert "cortex-a76" in encoder.runtime
    assert abs(psnr_db(there, case.embeddings) - psnr_db(here, case.embeddings)) < 1


@needs_arm
def test_verify_reports_the_processor(
    tflite_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two, with two prompts on each image: all takes half a minute of emulation."""
    bundle = shutil.copytree(tflite_bundle, tmp_path / "bundle")
    monkeypatch.chdir(ROOT)
    answers = proof._expected_answers

    def few(*arguments: Any) -> tuple[Sam, tuple[ImageCase, ...]]:
        sam, cases = answers(*arguments)
        return sam, tuple(replace(case, prompts=case.prompts[:2]) for case in cases)

    monkeypatch.setattr(proof, "_expected_answers", few)
    monkeypatch.setattr(arm, "MODELS", {"cortex-a76": arm.MODELS["cortex-a76"]})
    result = CliRunner().invoke(verify_command, [str(bundle), "--arm", "--json"])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    (report,) = printed["arm"].values()
    assert report["runtime"].endswith("CPU (aarch64), emulated cortex-a76")
    assert f"CPU ({platform.machine()})" in printed["verification"]["runtime"]
    assert report["status"] == "passed"
    assert read_manifest(bundle)["verification"]["arm"] == printed["arm"]
    here, there = (
        min(item["psnr_db"] for item in found["embeddings"])
        for found in (printed["verification"], report)
    )
    assert abs(there - here) < 1


@contextmanager
def noisy_sessions(bundle: Path, model: str) -> Iterator[tuple[Session, Session]]:
    """In place of an ARM build: an encoder whose kernels are as good as 45 dB."""
    encoder, decoder = (open_bundle(bundle).session(graph) for graph in ("encoder", "decoder"))
    random = np.random.default_rng(0)

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        (name, value), *_ = encoder.run(inputs).items()
        noise = random.normal(0, np.abs(value).max() * 10 ** (-45 / 20), value.shape)
        return {name: value + noise.astype(np.float32)}

    yield Session(run, f"emulated {model}"), Session(decoder.run, f"emulated {model}")


@pytest.fixture
def noisy_arm(onnx_bundle: Path, tmp_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, right by the runtime of this machine and 45 dB by what stands for an ARM build."""
    bundle = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    cases = golden.read(bundle / "golden")
    few = tuple(replace(case, prompts=case.prompts[:2]) for case in cases)
    monkeypatch.setattr(proof, "_expected_answers", lambda *_: (sam, few))
    monkeypatch.setattr(arm, "why_unavailable", lambda _: "")
    monkeypatch.setattr(arm, "MODELS", {"cortex-a76": arm.MODELS["cortex-a76"]})
    monkeypatch.setattr(arm, "sessions", noisy_sessions)
    return bundle


def test_a_recipe_that_breaks_its_tolerance_on_arm_is_not_verified_there(noisy_arm: Path) -> None:
    before = read_manifest(noisy_arm)["verification"]
    result = CliRunner().invoke(verify_command, [str(noisy_arm), "--arm"], standalone_mode=False)
    assert result.return_value == FAILED
    here, *there = result.stdout.splitlines()
    assert ": verified (ONNX Runtime" in here
    assert [line.strip().partition(":")[0] for line in there] == [
        f"FAILED (emulated {model})" for model in arm.MODELS
    ]
    kept = read_manifest(noisy_arm)["verification"]
    assert {model: report["status"] for model, report in kept.pop("arm").items()} == dict.fromkeys(
        arm.MODELS, "failed"
    )
    assert kept == before  # what the export has found is a figure of other kernels
    assert open_bundle(noisy_arm).status is Status.PASSED


def test_a_manifest_that_cannot_be_written_is_no_error(
    onnx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of emulation would be lost."""

    def full(path: Path, text: str) -> None:
        raise OutputError(f"cannot write {path}: No space left on device")

    notes: list[str] = []
    monkeypatch.setattr(manifest, "write_text", full)
    monkeypatch.setattr(proof, "note", notes.append)
    proof.keep(open_bundle(onnx_bundle), {})
    (text,) = notes
    assert "not in the manifest: cannot write" in text


def test_figures_of_a_bundle_that_was_replaced_are_not_kept(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    opened = open_bundle(bundle)
    written = read_manifest(bundle)
    written["files"]["encoder.onnx"]["sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(written))
    with pytest.raises(BundleError, match="exported again meanwhile"):
        record_arm(opened, {})
    assert read_manifest(bundle) == written


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), "no emulator in"),
        ((arm.EMULATOR,), "no ARM build of Python in"),
        ((arm.EMULATOR, f"root/{arm.PYTHON}"), "no ARM builds in"),
    ],
)
def test_what_is_missing_of_an_emulator_is_named(
    there: Sequence[str], missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in there:
        (arm.FOLDER / name).parent.mkdir(parents=True)
        (arm.FOLDER / name).touch()
    reason = arm.why_unavailable(get_backend("onnx"))
    assert reason.startswith(missing)
    assert "`make arm`" in reason


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
