"""`export --recover`: what it refuses, and whose encoder is in the files in the end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mobilesam_export.checkpoint.load import Checkpoint
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.graphs import ranges
from mobilesam_export.model import Sam
from mobilesam_export.pipeline import recovery
from mobilesam_export.pipeline.run import other_weights
from mobilesam_export.target import load_target
from mobilesam_export.verification.report import PromptError, Report
from mobilesam_export.verification.status import Status
from tests.cli_runner import USAGE, refused

EXPONENTS: ranges.Exponents = {}


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["-r", "w4", "--recover", "0"], "0 is not in the range x>=1"),
        (["-r", "w4", "--recover", "2", "--no-verify"], "leave --no-verify out"),
        (["-r", "float32", "--recover", "2"], "onnx:float32 has nothing to recover"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_recovered_is_one_line(
    arguments: list[str], phrase: str, tmp_path: Path
) -> None:
    refused(tmp_path, ["onnx", "-c", "missing.pt", *arguments], USAGE, [phrase])


def report(mask_iou: float, status: Status = Status.PASSED) -> Report:
    prompt = PromptError("image", "click", 0.0, 0.0, 0.0, mask_iou, 1.0, best_mask_changed=False)
    return Report(status, prompts=(prompt,))


def test_weights_recovered_for_another_recipe_are_named() -> None:
    provenance = Provenance(
        "s.safetensors", "", "0" * 64, "", trained=True, recovered_for="onnx:w4"
    )
    checkpoint, recipes = Checkpoint({}, provenance), load_target("onnx").recipes
    assert other_weights(recipes["w4"], "onnx:w4", checkpoint) == ()
    (text,) = other_weights(recipes["w8"], "onnx:w8", checkpoint)
    assert text.startswith("these weights were recovered for onnx:w4; onnx:w8 may do better")


class Files:
    """A maker whose files have a given mask IoU with the trained encoder, 0.9 with the first."""

    def __init__(self, trained: Report, *, fit: bool) -> None:
        self.job = SimpleNamespace(image_size=256, fit=fit, recover=7)
        self.plan = SimpleNamespace(contract=SimpleNamespace(size=None), recipe=None)
        self.graphs = ("given", "decoder")
        self.reports: dict[Any, Report] = {"given": report(0.9), "trained": trained}

    def with_encoder(self, encoder: Any, _: Any) -> Report:
        self.graphs = (encoder, "decoder")
        return self.reports[encoder]


@pytest.mark.parametrize(
    ("trained", "fit", "kept"),
    [
        (report(0.95), True, "trained"),
        (report(0.9), True, "given"),
        (report(0.8), False, "given"),
        (report(0.95, Status.FAILED), False, "trained"),
        (report(0.95, Status.FAILED), True, "given"),  # which can be fitted: the grid cannot
    ],
)
def test_the_better_encoder_stays(
    trained: Report, fit: bool, kept: str, monkeypatch: pytest.MonkeyPatch, sam: Sam
) -> None:
    checkpoint = SimpleNamespace(state_dict={}, provenance=SimpleNamespace(weights_sha256="0"))
    monkeypatch.setattr(recovery, "trained", lambda *_: (checkpoint, "generated scenes"))
    monkeypatch.setattr(recovery, "build_sam", lambda *_: sam)
    monkeypatch.setattr(ranges, "fold_ranges", lambda *_, **__: sam)
    monkeypatch.setattr(recovery, "split_graphs", lambda *_: ("trained", "decoder"))
    files: Any = Files(trained, fit=fit)
    found = recovery.recovered(files, EXPONENTS, report(0.9))
    assert files.graphs[0] == kept
    assert found.report == files.reports[kept]
    assert found.as_dict()["used"] == (kept == "trained")
    after = trained.prompts[0].mask_iou
    assert found.as_dict()["mask_iou_mean"] == {"before": 0.9, "after": after}
    assert f"0.9000 -> {after:.4f}" in found.summary()
    assert ("without it" in found.summary()) == (kept == "given")
