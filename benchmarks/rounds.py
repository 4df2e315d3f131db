"""Rounds in which files take turns, and the ratios of their times."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SEED = 0
WARM_UP = 2
Row = dict[str, Any]
Times = tuple[float, float]  # milliseconds that a file took, and of a processor


def interleaved(run: Callable[[int], Times], count: int, rounds: int) -> list[list[Times]]:
    """What `run` says of 0 to count - 1 in each round, which has an order of its own.

    The first `WARM_UP` rounds do not count: the browser still compiles.
    """
    random = np.random.default_rng(SEED)
    times: list[list[Times]] = [[] for _ in range(count)]
    for number in range(-WARM_UP, rounds):
        for index in random.permutation(count):
            found = run(int(index))
            if number >= 0:
                times[index].append(found)
    return times


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Rows with medians, and medians of the rounds' ratios to the naive form.

    An encoder is compared with the naive encoder, all other files with the naive decoder, of the
    same runtime and number of threads.
    """
    naive = {
        (row["runtime"], row["threads"], row["graph"]): row["times_ms"]
        for row in rows
        if row["recipe"] == "naive" and "times_ms" in row
    }
    return [row | _summary(row, naive) for row in rows]


def _summary(row: Row, naive: Mapping[tuple[str, int, str], Sequence[float]]) -> Row:
    """Of the rounds; without a ratio where the naive form was refused."""
    if "times_ms" not in row:
        return {}
    found: Row = {
        "median_ms": round(statistics.median(row["times_ms"]), 1),
        "median_cpu_ms": round(statistics.median(row["cpu_ms"]), 1),
    }
    graph = "encoder" if row["graph"] == "encoder" else "decoder"
    if base := naive.get((row["runtime"], row["threads"], graph)):
        ratios = [a / b for a, b in zip(row["times_ms"], base, strict=True)]
        found["ratio_to_naive"] = round(statistics.median(ratios), 3)
    return found
