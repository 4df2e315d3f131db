"""`verify --interpreter`: Core ML against the MIL interpreter, with a stand-in for Core ML."""

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import UsageError
from mobilesam_export.proof import bundle as proof
from mobilesam_export.session import Session
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status
from tests.cli_runner import warm

NEEDS_NO_MAC = pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is here")
Outputs = dict[str, Array]


def compare_on_a_mac(
    folder: Path, patch: pytest.MonkeyPatch, fault: Callable[[Outputs], Outputs]
) -> Report:
    """As on a Mac whose Core ML computes what the interpreter does, and then `fault`."""

    def load(path: Path, _spec: GraphSpec, _device: str, _threads: int) -> Session:
        session = coreml.second_opinion(path)
        return Session(lambda inputs: fault(session.run(inputs)), "Core ML on macOS 99")

    patch.setattr(coreml, "load", load)
    return proof.compare_with_interpreter(folder)


def test_a_core_ml_that_agrees_passes(coreml_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = compare_on_a_mac(coreml_bundle, monkeypatch, dict)
    assert (report.status, report.runtime) == (Status.PASSED, "Core ML on macOS 99")
    assert max(p.logits_max_abs_error for p in report.prompts) == 0


def test_a_core_ml_that_computes_something_else_fails(
    coreml_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(outputs: Outputs) -> Outputs:
        return {name: np.flip(value, -1).copy() for name, value in outputs.items()}

    report = compare_on_a_mac(coreml_bundle, monkeypatch, fault)
    assert report.status is Status.FAILED
    assert any("mask IoU" in failure for failure in report.failures)


@NEEDS_NO_MAC
def test_elsewhere_there_is_nothing_to_compare_with(coreml_bundle: Path, tmp_path: Path) -> None:
    done = warm(tmp_path, ["verify", coreml_bundle, "--interpreter"])
    assert done.code == 0
    verified, compared = done.stdout.splitlines()
    assert ": verified (MIL interpreter, float16): " in verified
    assert compared.startswith("  against the interpreter: unverified: the MIL interpreter")
    assert "note: no chip has run these files: the MIL interpreter computes" in done.stderr


def test_other_bundles_have_no_interpreter(onnx_bundle: Path) -> None:
    with pytest.raises(UsageError, match="no interpreter for the files of"):
        proof.compare_with_interpreter(onnx_bundle)
