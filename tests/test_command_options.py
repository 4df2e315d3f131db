"""What a command line without options means is what the library does without arguments."""

from pathlib import Path
from typing import Any

import click
import pytest

from mobilesam_export.benchmark.run import BenchmarkOptions
from mobilesam_export.benchmark.subject import COMPONENTS
from mobilesam_export.commands import benchmark
from mobilesam_export.commands.compare import compare_command
from mobilesam_export.commands.evaluate import evaluate_command
from mobilesam_export.commands.export import ExportOptions, target_command
from mobilesam_export.compare.run import CompareOptions
from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation.run import EvaluateOptions
from mobilesam_export.pipeline import Job
from mobilesam_export.target import load_target

A, B = Path("a"), Path("b")
PRINTED = ("as_json", "strict", "save", "plot", "markdown", "junit", "report")  # by the command


def parsed(command: click.Command, *arguments: str) -> dict[str, Any]:
    with command.make_context(command.name, list(arguments)) as context:
        return dict(context.params)


def test_benchmark_has_the_defaults_of_the_library() -> None:
    values = parsed(benchmark.benchmark_command, "a")
    given = {name: value for name, value in values.items() if name not in PRINTED}
    assert BenchmarkOptions(**given) == BenchmarkOptions((A,))


def test_compare_has_the_defaults_of_the_library() -> None:
    values = parsed(compare_command, "a", "b")
    given = {name: value for name, value in values.items() if name not in PRINTED}
    assert CompareOptions(**given) == CompareOptions(A, B)


def test_evaluate_has_the_defaults_of_the_library() -> None:
    values = parsed(evaluate_command, "a")
    given = {n: v for n, v in values.items() if n == "save" or n not in PRINTED}
    assert EvaluateOptions(**given) == EvaluateOptions((A,))


def test_an_export_has_the_defaults_of_the_library() -> None:
    options = ExportOptions(**parsed(target_command("onnx")))
    target = load_target("onnx")
    assert options.job(target, several=False) == Job(target)


@pytest.mark.parametrize(("several", "folder"), [(False, "a"), (True, "a/onnx-float32")])
def test_several_targets_share_the_folder_of_out(several: bool, folder: str) -> None:
    options = ExportOptions(**parsed(target_command("onnx"), "-o", "a"))
    assert options.job(load_target("onnx"), several=several).out == Path(folder)


def test_the_components_that_are_offered_are_those_that_are_measured() -> None:
    assert benchmark.COMPONENTS == COMPONENTS


def test_two_bundles_of_one_name_are_refused_because_tables_could_not_tell_them_apart() -> None:
    with pytest.raises(UsageError, match="two bundles are called a; rename the folder of one"):
        BenchmarkOptions((Path("x/a"), Path("y/a")))
