"""Gates and rooflines on figures that are worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mobilesam_export.benchmark.roofline import Peak, gpu_peak, measured_cpu_peak, roofline
from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.compare.gates import (
    LIMITS,
    Gate,
    count_partitions,
    file_figures,
    judge_figures,
    judge_masks,
    pack_masks,
    unpack_masks,
)
from mobilesam_export.compare.run import parse_limits
from mobilesam_export.errors import BudgetError, UsageError
from mobilesam_export.inspection.report import OpReport, ResidencyReport

MASKS = st.dictionaries(
    st.text(max_size=8), arrays(bool, array_shapes(min_dims=2, max_dims=2)), max_size=3
)


def residency(verdicts: str) -> ResidencyReport:
    """R resident, A at risk, N not resident."""
    words = {"R": "resident", "A": "at risk", "N": "not resident"}
    ops = tuple(OpReport(str(i), "k", words[v], ()) for i, v in enumerate(verdicts))
    return ResidencyReport("", "", {}, {}, ops)


@pytest.mark.parametrize(
    ("verdicts", "partitions"),
    [("", 0), ("RRAR", 1), ("NN", 0), ("NRNRN", 2), ("RNNRAN", 2), ("RNRNR", 3)],
)
def test_partitions_are_unbroken_runs(verdicts: str, partitions: int) -> None:
    assert count_partitions(residency(verdicts)) == partitions


def figures(**values: int | None) -> dict[str, dict[str, int | None]]:
    return {"encoder": values, "decoder": {}}


def gate(base: int | None, candidate: int | None, limit: float) -> Gate:
    return judge_figures(figures(macs=base), figures(macs=candidate), {"macs": limit})[0]


@pytest.mark.parametrize(
    ("base", "candidate", "limit", "verdict"),
    [
        (100, 100, 1.0, "pass"),
        (100, 101, 1.0, "fail"),
        (100, 101, 1.01, "pass"),
        (100, 1, 1.0, "pass"),
        (0, 1, 5.0, "fail"),
        (0, 0, 1.0, "pass"),
        (None, 100, 1.0, "unverified"),
        (100, None, 1.0, "unverified"),
    ],
)
def test_a_figure_is_held_to_its_ratio(
    base: int | None, candidate: int | None, limit: float, verdict: str
) -> None:
    assert gate(base, candidate, limit).verdict == verdict


def test_the_worst_mask_is_judged_and_named() -> None:
    full, half = np.ones((2, 2), bool), np.array([[True, True], [False, False]])
    base = {"a, click": full, "a, box": full}
    found = judge_masks(base, {"a, click": full, "a, box": half}, 0.6)
    assert (found.candidate, found.verdict, found.reason) == (0.5, "fail", "a, box")
    assert judge_masks(base, base, 1.0).verdict == "pass"


def test_masks_of_other_prompts_are_unverified() -> None:
    mask = np.ones((2, 2), bool)
    assert judge_masks({"a": mask}, {"b": mask}, 0.5).verdict == "unverified"
    assert judge_masks({}, {"b": mask}, 0.5).verdict == "unverified"


@given(MASKS)
def test_packed_masks_come_back(masks: dict[str, np.ndarray]) -> None:
    back = unpack_masks(pack_masks(masks))
    assert set(back) == set(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(back[name], mask)


@pytest.mark.parametrize(
    "packed",
    [
        {"a": {}},
        {"a": 5},
        {"a": {"shape": [2, 2], "bits": "!"}},
        {"a": {"shape": [2], "bits": "eJwDAAAAAAE="}},
    ],
)
def test_damaged_masks_are_one_line(packed: dict[str, object]) -> None:
    with pytest.raises(BudgetError, match="masks are damaged"):
        unpack_masks(packed)


def test_the_figures_of_a_file_are_those_of_inspect(onnx_bundle: Path) -> None:
    report = inspect_path(onnx_bundle / "encoder.onnx")[0]
    found = file_figures(report)
    assert set(found) == set(LIMITS)
    assert found["macs"] == sum(report.macs.values())
    assert found["transposes"] == report.ops["Transpose"]
    assert found["file_bytes"] == (onnx_bundle / "encoder.onnx").stat().st_size
    assert found["partitions"] is None


def test_a_roofline_is_the_longer_of_computing_and_moving(onnx_bundle: Path) -> None:
    report = inspect_path(onnx_bundle / "encoder.onnx")[0]
    macs = sum(report.macs.values())
    moved = sum(report.weights_bytes.values()) + 256 * 256 * 3 + 256 * 16 * 16 * 4
    where = ("b", "encoder", "cpu")
    slow_arithmetic = roofline(where, report, Peak(1.0, 1e9, "made up"), 1e6)
    assert slow_arithmetic.bytes == moved
    assert slow_arithmetic.bound_ms == pytest.approx(2 * macs / 1e9 * 1e3)
    assert slow_arithmetic.limited_by == "compute"
    assert slow_arithmetic.share == pytest.approx(2 * macs / 1e9 * 1e3 / 1e6)
    slow_memory = roofline(where, report, Peak(1e9, 1.0, "made up"), None)
    assert slow_memory.bound_ms == pytest.approx(moved / 1e9 * 1e3)
    assert (slow_memory.limited_by, slow_memory.share) == ("memory", None)
    assert roofline(where, report, None, 1.0).bound_ms is None


def test_a_gpu_has_the_peak_of_its_data_sheet() -> None:
    half = gpu_peak("NVIDIA H200", "float16")
    assert half is not None
    assert (half.gflops, half.gb_per_s) == (989_500.0, 4800.0)
    assert gpu_peak("NVIDIA H200", "float32") == Peak(
        67_000.0, 4800.0, "data sheet of H200, float32"
    )
    assert gpu_peak("some other", "float16") is None


def test_the_cpus_peak_is_measured() -> None:
    peak = measured_cpu_peak(1)
    assert peak is not None
    assert 0.1 < peak.gflops < 1e5
    assert 0.01 < peak.gb_per_s < 1e4


def test_limits_are_changed_one_by_one() -> None:
    limits = parse_limits(["time=1.5", "mask_iou=0.9"])
    assert (limits["time"], limits["mask_iou"], limits["ops"]) == (1.5, 0.9, LIMITS["ops"])
    for text in ("time=0.9", "ops=nan", "macs=inf", "nothing=1", "ops"):
        with pytest.raises(UsageError, match="--limit"):
            parse_limits([text])
