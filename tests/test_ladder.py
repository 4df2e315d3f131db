"""`ladder`: sizes and shapes of one recipe, by masks and cost, and which to take."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import UsageError
from mobilesam_export.sweep import ladder
from mobilesam_export.sweep.rungs import LadderOptions, Rung, pareto, recommended
from tests.cli_runner import USAGE, refused
from tests.conftest import WEIGHTS


def rung(size: int, iou: float, ms: float | None, peak: int | None = 1) -> Rung:
    mean = {"click": iou, "clicks": iou, "box": iou}
    return Rung(str(size), "b", "passed", mean, iou, ms, 0.0, size, peak, 1)


def options(**values: object) -> LadderOptions:
    return LadderOptions("onnx", Path("out"), ("256", "512"), **values)  # type: ignore[arg-type]


figures = st.tuples(st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.integers(1, 5))


@given(st.lists(figures, min_size=1, max_size=6))
def test_no_rung_is_cheaper_and_better_than_one_of_the_front(
    values: list[tuple[float, int]],
) -> None:
    rungs = [rung(size, iou, ms) for size, (iou, ms) in enumerate(values)]
    front = pareto(rungs)
    assert front
    for item in rungs:
        assert any(best.cost <= item.cost and best.iou >= item.iou for best in front)  # type: ignore[operator]
    for best in front:
        assert not any(item.cost < best.cost and item.iou >= best.iou for item in rungs)  # type: ignore[operator]


def test_the_best_masks_within_the_budget_are_recommended() -> None:
    rungs = [rung(512, 0.9, 20), rung(1024, 1.0, 80), rung(768, 0.95, 40, peak=3_000_000)]
    assert recommended(rungs, options(max_ms=50)) == rungs[2]
    assert recommended(rungs, options(max_ms=50, max_mb=2)) == rungs[0]
    assert recommended(rungs, options(max_ms=10)) is None


def test_a_figure_that_is_not_known_is_within_no_budget() -> None:
    assert recommended([rung(512, 0.9, None)], options(max_ms=50)) is None


def test_every_size_is_held_to_the_square_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "TRAINED", 256)
    monkeypatch.setattr(ladder, "SCENES", Frame(256, 320))
    asked = LadderOptions(
        "onnx", tmp_path, ("256", "320x256"), checkpoint=WEIGHTS, scenes=1, rounds=1
    )
    square, rectangle = ladder.run(asked)
    assert square.worst > 0.99  # the same size as the truth's
    assert rectangle.worst < 0.99
    assert rectangle.macs is not None
    assert square.macs is not None
    assert rectangle.macs > square.macs  # 320 x 320, in part
    found = json.loads((tmp_path / "ladder.json").read_text())["rungs"]
    assert [item["size"] for item in found] == ["256", "320x256"]
    with Image.open(tmp_path / "ladder.png") as image:
        assert image.size == (960, 540)
    monkeypatch.setattr(ladder, "export", None)  # is not called again
    assert [item.mean for item in ladder.run(asked)] == [square.mean, rectangle.mean]


@pytest.mark.parametrize(
    ("sizes", "code", "words"),
    [
        ("512", USAGE, ["a ladder has two sizes at least"]),
        ("512,512x512", USAGE, ["a ladder has two sizes at least"]),
        ("512,cat", USAGE, ["image size is 'cat'", "1024x768"]),
    ],
)
def test_sizes_that_make_no_ladder(tmp_path: Path, sizes: str, code: int, words: list[str]) -> None:
    refused(tmp_path, ["ladder", "onnx", "--sizes", sizes, "-o", "out"], code, words)


def test_a_ladder_wants_sizes(tmp_path: Path) -> None:
    refused(tmp_path, ["ladder", "onnx", "-o", "out"], USAGE, ["--sizes"])


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-ms is 0; expected more than 0"):
        options(max_ms=0.0)
