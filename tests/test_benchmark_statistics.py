"""Figures of known times; no clock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilesam_export.benchmark.statistics import P99_ROUNDS, summarize

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300)


def test_figures_of_five_times() -> None:
    latency = summarize([10.0, 20.0, 30.0, 40.0, 50.0])
    assert latency.rounds == 5
    assert latency.median_ms == 30.0
    assert latency.p90_ms == pytest.approx(46.0)  # 0.9 * 4 = 3.6: 40 and 0.6 of the next 10
    assert latency.min_ms == 10.0
    assert latency.spread == pytest.approx(20 / 30)  # from 20 to 40, over 30


def test_a_99th_percentile_takes_a_hundred_rounds() -> None:
    assert summarize([1.0] * (P99_ROUNDS - 1)).p99_ms is None
    assert summarize([float(n) for n in range(1, 101)]).p99_ms == pytest.approx(99.01)


@given(TIMES)
def test_percentiles_are_in_order_and_within_the_times(times: list[float]) -> None:
    latency = summarize(times)
    assert latency.p90_ms is not None
    assert latency.min_ms is not None
    assert min(times) == latency.min_ms <= latency.median_ms <= latency.p90_ms <= max(times)


@given(TIMES, st.floats(0.01, 100))
def test_another_unit_changes_no_spread(times: list[float], factor: float) -> None:
    scaled = summarize([factor * t for t in times])
    assert scaled.spread == pytest.approx(summarize(times).spread, rel=1e-9, abs=1e-9)
    assert scaled.median_ms == pytest.approx(factor * float(np.median(times)))


@pytest.mark.parametrize("times", [[], [0.0], [1.0, -1.0], [float("nan")], [float("inf")]])
def test_what_is_no_time_is_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="expected positive times"):
        summarize(times)
