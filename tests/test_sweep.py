"""`sweep`: every combination is exported and evaluated, once."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from mobilesam_export import cluster
from mobilesam_export.errors import UsageError
from mobilesam_export.sweep.points import Point, SweepOptions
from mobilesam_export.sweep.run import run
from tests.cli_runner import ERROR, FAILED, USAGE, refused, warm
from tests.conftest import SIZE, WEIGHTS

RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not RAY, reason="the extra [ray] is 600 MB and not installed")
ONE = ("onnx:float32", "-c", WEIGHTS, "--image-size", str(SIZE), "--scenes", "1")


def options(out: Path, *targets: str, scenes: int = 1, **values: object) -> SweepOptions:
    return SweepOptions(targets, out, scenes=scenes, **values)  # type: ignore[arg-type]


def test_points_are_every_combination_once(tmp_path: Path) -> None:
    found = options(
        tmp_path,
        *("onnx:float16", "onnx-sam", "onnx:float16"),
        checkpoints=("demo", "a.pt"),
        image_sizes=(256, 512),
    ).points()
    assert len(found) == 8
    assert found[0] == Point("onnx", "float16", 256, "demo")
    assert found[-1] == Point("onnx-sam", "float32", 512, "a.pt")


def test_a_target_stands_for_all_its_recipes(tmp_path: Path) -> None:
    recipes = {point.recipe for point in options(tmp_path, "tflite-gpu").points()}
    assert recipes == {"float16", "float32"}


def test_checkpoints_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two checkpoints are named best"):
        options(tmp_path, "onnx", checkpoints=("a/best.pt", "b/best.safetensors"))


def test_a_sweep_has_the_figures_of_evaluate_and_is_not_repeated(tmp_path: Path) -> None:
    sweep = ("sweep", *ONE, "-o", "out", "--json")
    done = warm(tmp_path, sweep)
    assert done.code == 0, done.stderr
    (row,) = json.loads(done.stdout)["points"]
    bundle = tmp_path / "out" / f"onnx-float32-{SIZE}-{WEIGHTS.replace(':', '_')}"
    alone = warm(tmp_path, ["evaluate", bundle, "--scenes", "1", "--json"])
    (score,) = json.loads(alone.stdout)["candidates"].values()
    assert (row["status"], row["mean"]) == ("passed", score["mean"])
    again = warm(tmp_path, sweep)
    assert "Converting" not in again.stderr
    assert again.stdout == done.stdout


def test_a_row_of_another_question_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "onnx-float32-256-nowhere.json").write_text('{"asked": {}, "mean": {}}')
    asked = options(tmp_path, "onnx:float32", checkpoints=("nowhere.pt",), image_sizes=(256,))
    (row,) = run(asked).rows
    assert "nowhere.pt" in row["problem"]


def test_a_point_without_figures_says_why_and_the_exit_code_is_3(tmp_path: Path) -> None:
    arguments = ["sweep", "onnx:float32", "-c", "nowhere.pt", "--image-size", "256", "-o", "out"]
    done = warm(tmp_path, arguments)
    assert done.code == FAILED
    assert "no figures" in done.stdout
    assert done.stderr.count("note: onnx-float32-256-nowhere: ") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["onnx:nothing"], ERROR, ["nothing", "float32"]),
        (["nothing"], ERROR, ["no target 'nothing'"]),
        (["onnx:float32", "--image-size", "100"], USAGE, ["100"]),
        (["onnx:float32", "--annotations", "a.json"], USAGE, ["--annotations needs --images"]),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], code: int, words: list[str], tmp_path: Path
) -> None:
    refused(tmp_path, ["sweep", *arguments, "-c", "demo", "-o", "out"], code, words)


@pytest.mark.skipif(RAY, reason="it is installed")
@pytest.mark.parametrize("command", [("sweep", *ONE, "-o", "out"), ("evaluate", "somewhere")])
def test_without_ray_what_to_type_is_said(command: tuple[str, ...], tmp_path: Path) -> None:
    arguments = [*command, "--ray", "local"]
    refused(tmp_path, arguments, ERROR, ['pip install "mobilesam-export[ray]"'])


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of its own options
def test_two_workers_have_the_rows_of_one_process(tmp_path: Path) -> None:
    targets, sizes = ("onnx:float32", "onnx:float16"), (SIZE,)
    here = SweepOptions(targets, tmp_path / "here", (WEIGHTS,), sizes, scenes=1)
    there = replace(here, out=tmp_path / "there", ray=cluster.LOCAL)
    for one, other in zip(run(here).rows, run(there).rows, strict=True):
        assert {**one, "median_ms": None} == {**other, "median_ms": None}
