"""Raw times -> the figures that are reported. No clock in here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Below this many rounds the 99th percentile would be the largest value by another name.
P99_ROUNDS = 100


@dataclass(frozen=True)
class Latency:
    """Summary of a series of times, in ms.

    Attributes:
        rounds: number of times.
        median_ms, p90_ms: percentiles, linear between neighbours.
        p99_ms: None below P99_ROUNDS.
        min_ms: the smallest time.
        spread: interquartile range over the median: 0.1 is 10 %.

    For a device that reports figures instead of raw times, the missing ones are None.
    """

    rounds: int
    median_ms: float
    p90_ms: float | None
    p99_ms: float | None
    min_ms: float | None
    spread: float | None


def summarize(times_ms: Sequence[float]) -> Latency:
    """Figures of at least one time.

    Raises:
        ValueError: there is none, or one is not a positive number.
    """
    times = np.asarray(times_ms, np.float64)
    if times.size == 0 or not np.all(np.isfinite(times) & (times > 0)):
        raise ValueError(f"expected positive times, found {list(times_ms)[:5]}")
    q25, median, q75, p90, p99 = (float(v) for v in np.percentile(times, [25, 50, 75, 90, 99]))
    return Latency(
        rounds=int(times.size),
        median_ms=median,
        p90_ms=p90,
        p99_ms=p99 if times.size >= P99_ROUNDS else None,
        min_ms=float(times.min()),
        spread=(q75 - q25) / median,
    )
