"""`verify --coreai`: Core ML's files beside Core AI's; the runs are in test_coreai_stress."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mobilesam_export.proof.peer import between
from mobilesam_export.target import Tolerance
from tests.cli_runner import ERROR, USAGE, assert_refused, refused, warm
from tests.fault_points import hide


def test_the_limit_is_twice_the_error_that_each_may_have() -> None:
    limit = between(Tolerance(60, 0.6, 0.01, 0.99))
    assert limit.embedding_psnr_db == pytest.approx(53.98, abs=0.01)
    assert (limit.logits_error, limit.iou_max_abs_error) == (1.2, 0.02)
    assert limit.mask_iou == pytest.approx(0.98)
    assert between(Tolerance(0, 0, 0.9, 0.2)) == Tolerance(0, 0, 1, 0)


def test_only_core_ml_has_core_ai_beside_it(onnx_bundle: Path, tmp_path: Path) -> None:
    refused(tmp_path, ["verify", onnx_bundle, "--coreai"], USAGE, ["no second format", "onnx"])


def test_other_weights_than_a_recipe_s_are_not_compared(
    compressed: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = compressed("w8")
    refused(tmp_path, ["verify", folder, "--coreai"], USAGE, ["of the recipe w8; only those of"])


def test_comparing_needs_the_extra(coreml_bundle: Path, tmp_path: Path) -> None:
    arguments = ["verify", coreml_bundle, "--coreai"]
    done = warm(tmp_path, arguments, before=[partial(hide, "coreai")])
    assert_refused(done, ERROR, ["cannot compare with Core AI: coreai"])
