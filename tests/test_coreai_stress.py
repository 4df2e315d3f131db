"""Whole networks in Apple's arithmetic, by a runtime that takes minutes for each."""

import json
from pathlib import Path

import pytest

from benchmarks import coreai, coreai_ops
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.prompts import encoder_inputs
from tests.cli_runner import warm
from tests.conftest import DEFAULT
from tests.coreai_files import NEEDS_COREAI
from tests.stress_weights import scale_neck, scale_streams
from tests.test_ranges import demo, folded

pytestmark = [pytest.mark.slow, NEEDS_COREAI]


def test_stress_weights_are_right_in_apples_arithmetic(tmp_path: Path) -> None:
    """A LayerNorm whose sums overflow leaves 13 to 20 dB there. The encoder, on one image."""
    _, same, expected = folded(scale_neck(scale_streams(demo(), 64), 200))
    contract = Contract(256, 6, coreai.TARGET.graph)
    encoder, _ = split_graphs(same, contract)
    session = coreai.session(encoder, contract, tmp_path)
    found = session.run(encoder_inputs(expected[0].image, contract))["image_embeddings"]
    assert "Core AI" in session.runtime
    assert psnr_db(found, expected[0].embeddings) > 70


def test_operations_are_computed_as_the_table_says() -> None:
    kept = {row["operation"]: row for row in json.loads(coreai_ops.RESULT.read_text())["rows"]}
    for row in coreai_ops.rows():
        for name in ("coreai", "pessimistic", "kind"):
            assert row[name] == pytest.approx(kept[row["operation"]][name], abs=0.5), row


def test_a_bundle_is_made_verified_and_used(tmp_path: Path) -> None:
    """In float32, which the runtime computes fast."""
    made = warm(tmp_path, ["coreai", *DEFAULT, "-r", "float32", "-o", "b"])
    assert made.code == 0, made.stderr
    assert "verified (Core AI 1." in made.stdout
    assert "no Neural Engine and no GPU" in made.stdout + made.stderr
    assert "iOS, iPadOS or macOS 27" in (tmp_path / "b" / "README.md").read_text()
    image = "b/golden/landscape/image.png"
    for arguments, phrase in (
        (["verify", "b"], "verified (Core AI 1."),
        (["inspect", "b"], "Core AI asset"),
        (["segment", "b", image, "--point", "76,60", "-o", "mask.png"], "mask.png"),
        (["evaluate", "b", "--scenes", 1], "click"),
    ):
        done = warm(tmp_path, arguments)
        assert done.code == 0, done.stderr
        assert phrase in done.stdout + done.stderr


def test_a_segmenter_is_made_verified_and_used(tmp_path: Path) -> None:
    made = warm(tmp_path, ["coreai-segmenter", *DEFAULT, "-r", "float32", "-o", "b"])
    assert made.code == 0, made.stderr
    assert "verified (Core AI 1." in made.stdout
    assert "The encoder runs at every click" in (tmp_path / "b" / "README.md").read_text()
    assets = json.loads((tmp_path / "b" / "metadata.json").read_text())["assets"]
    assert {path.name for path in (tmp_path / "b").glob("*.aimodel")} == set(assets.values())
    image = "b/golden/landscape/image.png"
    for arguments, phrase in (
        (["verify", "b"], "verified (Core AI 1."),
        (["inspect", "b"], "batched_points float32 (1, 1, 6, 2)"),
        (["segment", "b", image, "--point", "76,60", "-o", "mask.png"], "mask.png"),
    ):
        done = warm(tmp_path, arguments)
        assert done.code == 0, done.stderr
        assert phrase in done.stdout + done.stderr


def test_core_ml_files_agree_with_core_ai(coreml_bundle: Path, tmp_path: Path) -> None:
    done = warm(tmp_path, ["verify", coreml_bundle, "--coreai"])
    assert done.code == 0, done.stdout + done.stderr
    assert "against Core AI: verified (MIL interpreter, float16)" in done.stdout
