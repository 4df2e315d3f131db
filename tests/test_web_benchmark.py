"""The benchmark of web runtimes: its rounds, its ratios and its table; no browser is needed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import rounds as turns
from benchmarks.speed_files import File
from benchmarks.speed_tables import web as table

NAMES = {"runtime": "R", "threads": 1}


def row(recipe: str, graph: str, times: list[float]) -> dict[str, Any]:
    return {**NAMES, "recipe": recipe, "graph": graph, "times_ms": times, "cpu_ms": [7.0]}


def test_each_round_runs_every_file_once_in_an_order_of_its_own() -> None:
    ran: list[int] = []

    def run(index: int) -> tuple[float, float]:
        ran.append(index)
        return float(index), float(len(ran))

    times = turns.interleaved(run, 5, 8)
    rounds = [ran[start : start + 5] for start in range(0, len(ran), 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    counted = [[5 * turn + rounds[turn].index(3) + 1] for turn in range(turns.WARM_UP, len(rounds))]
    assert times[3] == [(3, at) for (at,) in counted]
    assert [len(values) for values in times] == [8] * 5


def test_ratios_are_of_rounds_and_to_the_naive_file_of_the_same_part() -> None:
    rows = [
        row("naive", "encoder", [100, 400, 100]),
        row("naive", "decoder", [10, 10, 40]),
        row("float32", "encoder", [50, 200, 60]),
        row("float32", "decoder_prepared", [5, 5, 5]),
        {**NAMES, "recipe": "float16", "graph": "decoder", "refused": "no such kernel"},
        {**row("float32", "decoder", [1]), "runtime": "without a naive form"},
    ]
    found = turns.with_ratios(rows)
    assert [item.get("ratio_to_naive") for item in found] == [1, 1, 0.5, 0.5, None, None]
    assert [item.get("median_ms") for item in found] == [100, 10, 60, 5, None, 1]


def test_the_table_has_a_line_for_each_recipe_and_says_what_was_refused() -> None:
    rows = [
        row("naive", "decoder", [200]),
        row("float32", "decoder", [150]),
        row("float32", "decoder_prepared", [90]),
        {**NAMES, "recipe": "float16", "graph": "decoder", "refused": "no such kernel"},
    ]
    lines = table({"rows": turns.with_ratios(rows)}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ["encoder", "decoder", "prepare", "decoder_prepared"]
    assert cells[2] == ["R, 1 thread, naive", "", "200; 7.0; 1.00", "", ""]
    assert cells[3] == ["R, 1 thread, float32", "", "150; 7.0; 0.75", "", "90.0; 7.0; 0.45"]
    assert cells[4] == ["R, 1 thread, float16", "", "refused", "", ""]


@pytest.mark.parametrize(
    ("graph", "shape", "error", "near"),
    [
        ("encoder", (2, 8), {"max": 9.0, "rms": 0.009}, True),
        ("encoder", (2, 8), {"max": 9.0, "rms": 0.011}, False),
        ("decoder", (1, 4, 2, 2), {"max": 0.4, "rms": 9.0}, True),
        ("decoder_prepared", (1, 4, 2, 2), {"max": 0.6, "rms": 0.0}, False),
        ("decoder", (1, 4), {"max": 0.02, "rms": 0.0}, True),
        ("decoder", (1, 4), {"max": 0.04, "rms": 0.0}, False),
    ],
)
def test_answers_are_held_to_the_recipe_s_tolerance(
    graph: str, shape: tuple[int, ...], error: dict[str, float], near: bool
) -> None:
    """Of 40 dB, 0.5 as the largest error of a logit, and 0.03 as that of an IoU."""
    tolerance = SimpleNamespace(embedding_psnr_db=40, iou_max_abs_error=0.03)
    bundle: Any = SimpleNamespace(recipe=SimpleNamespace(tolerance=tolerance), logits_limit=0.5)
    file = File("onnx", "float32", graph, Path("a.onnx"), {}, {}, bundle)
    assert file.is_near(np.ones(shape, np.float32), error) == near
