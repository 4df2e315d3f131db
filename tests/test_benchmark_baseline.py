"""Figures, rooflines and stored baselines, on files and numbers that are worked out by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mobilesam_export.benchmark.baseline import (
    KIND,
    SCHEMA_VERSION,
    Baseline,
    pack_masks,
    read_baselines,
    unpack_masks,
)
from mobilesam_export.benchmark.figures import count_partitions, file_figures
from mobilesam_export.benchmark.roofline import Peak, gpu_peak, measured_cpu_peak, roofline
from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.compare.gates import LIMITS
from mobilesam_export.errors import MeasurementError
from mobilesam_export.inspection.graph import Partitions
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
    with pytest.raises(MeasurementError, match="masks are damaged"):
        unpack_masks(packed)


def stored(**changes: object) -> dict[str, Any]:
    """What `benchmark --save` writes of one bundle, as far as it is read again."""
    figures: dict[str, dict[str, int | None]] = {
        "encoder": {"ops": 5, "macs": None},
        "decoder": {"ops": 3, "macs": 7},
    }
    masks = {"a, click": np.array([[True, False, True]])}
    kept = Baseline("onnx", "float32", 256, 6, "f00d", figures, masks).as_dict()
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "machine": {"fingerprint": "here"},
        "bundles": {"a": {**kept, **changes}},
    }


def test_a_baseline_comes_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(stored()))
    found = read_baselines(tmp_path / "a.json")
    assert found.fingerprint == "here"
    kept = found.baselines["a"]
    assert (kept.target, kept.recipe, kept.image_size, kept.points) == ("onnx", "float32", 256, 6)
    assert kept.figures["encoder"] == {"ops": 5, "macs": None}
    np.testing.assert_array_equal(kept.masks["a, click"], [[True, False, True]])


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "was not written by": lambda kept: kept.update(kind="mine"),
    "has version 99": lambda kept: kept.update(schema_version=99),
    "its machine or its bundles are no table": lambda kept: kept.update(machine=["here"]),
    "a has no 'target'": lambda kept: kept["bundles"]["a"].pop("target"),
    "a has no 'decoder'": lambda kept: kept["bundles"]["a"]["figures"].pop("decoder"),
    "ops is 'many', expected": lambda kept: kept["bundles"]["a"]["figures"]["encoder"].update(
        ops="many"
    ),
    "damaged: a: ": lambda kept: kept["bundles"].update(a=5),
    "masks are damaged": lambda kept: kept["bundles"]["a"].update(masks={"b": 1}),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_damaged_baseline_is_one_line(said: str, tmp_path: Path) -> None:
    kept = stored()
    DAMAGE[said](kept)
    (tmp_path / "a.json").write_text(json.dumps(kept))
    with pytest.raises(MeasurementError, match=said) as caught:
        read_baselines(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_the_figures_of_a_file_are_those_of_inspect(onnx_bundle: Path) -> None:
    report = inspect_path(onnx_bundle / "encoder.onnx")[0]
    found = file_figures(report)
    assert set(found) == set(LIMITS)
    assert found["macs"] == sum(report.macs.values())
    assert found["transposes"] == report.ops["Transpose"]
    assert found["file_bytes"] == (onnx_bundle / "encoder.onnx").stat().st_size
    assert found["partitions"] is None


def test_partitions_without_rules_are_those_of_the_delegate(onnx_bundle: Path) -> None:
    report = inspect_path(onnx_bundle / "encoder.onnx")[0]
    cut = replace(report, partitions=Partitions("a delegate", 3, ()))
    assert file_figures(cut)["partitions"] == 3


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
