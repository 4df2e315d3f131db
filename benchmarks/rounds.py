"""Rounds in which files take turns, and the ratios of their times."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

import numpy as np

SEED = 0
WARM_UP = 2
PAUSE_S = 0.02  # in which the threads of the last file's runtime stop spinning
Row = dict[str, Any]
Found = TypeVar("Found")


def interleaved(run: Callable[[int], Found], count: int, rounds: int) -> list[list[Found]]:
    """What `run` says of 0 to count - 1 in each round, which has an order of its own.

    The first `WARM_UP` rounds do not count.
    """
    random = np.random.default_rng(SEED)
    found: list[list[Found]] = [[] for _ in range(count)]
    for number in range(-WARM_UP, rounds):
        for index in random.permutation(count):
            said = run(int(index))
            if number >= 0:
                found[index].append(said)
    return found


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios within each round: it bears a machine that grows slower or faster."""
    return round(median(a / b for a, b in zip(times, base, strict=True)), 3)


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
        "median_ms": round(median(row["times_ms"]), 1),
        "median_cpu_ms": round(median(row["cpu_ms"]), 1),
    }
    graph = "encoder" if row["graph"] == "encoder" else "decoder"
    if base := naive.get((row["runtime"], row["threads"], graph)):
        found["ratio_to_naive"] = ratio(row["times_ms"], base)
    return found
