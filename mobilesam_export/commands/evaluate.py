"""`mobilesam-export evaluate`: parse, call, print, write."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import (
    JSON,
    OK,
    RAY,
    WORKERS,
    check_outputs,
    image_options,
    print_json,
    print_notes,
)

if TYPE_CHECKING:
    from mobilesam_export.evaluation.run import EvaluationResult

NAMED_PROBLEMS = 20
WIDTH = 160  # characters of the table where there is no terminal


@click.command("evaluate")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@image_options
@click.option("-c", "--checkpoint", help="What the bundles were made of. [default: what they name]")
@click.option(
    "--clicks",
    default=3,
    show_default=True,
    help="A side, on images without annotations, to find objects.",
)
@click.option("--pytorch", is_flag=True, help="Evaluate the float32 PyTorch model beside them.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Keep figures here; go on if it is there."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML page.")
@RAY
@WORKERS
@JSON
def evaluate_command(report: Path | None, as_json: bool, **values: Any) -> int:
    """Measure the IoU of BUNDLEs' masks by kind of prompt.

    The mean, against annotated masks, or on images without any against the float32 PyTorch model;
    without images, on generated scenes that the demo weights were never trained on.

    \b
    Example:
      mobilesam-export evaluate build/onnx-float32 --scenes 20 --report report.html
      mobilesam-export evaluate build/a build/b --images val2017 --annotations instances.json
    """
    from mobilesam_export.evaluation.run import EvaluateOptions, run, write_report

    check_outputs({".html": report})
    result = run(EvaluateOptions(**values))
    if report:
        write_report(report, result)
    if as_json:
        print_json(result.as_dict())
    else:
        print_table(result)
        print_notes(*(item.predictor.encoder.note for item in result.candidates))
    return OK


def print_table(result: "EvaluationResult") -> None:
    """The figures for people, and on stderr what was left out."""
    from rich.console import Console
    from rich.table import Table

    from mobilesam_export.evaluation.report import figures_table

    evaluation = result.evaluation
    objects = max(score.objects for score in evaluation.scores.values())
    click.echo(
        f"{result.dataset.description}: {evaluation.images} evaluated, {objects} objects; mean IoU"
    )
    head, *rows = figures_table(evaluation, result.sizes)
    table = Table()
    for index, cell in enumerate(head):
        table.add_column(cell, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else WIDTH).print(table)
    for word, items in (("note", evaluation.notes), ("left out", evaluation.problems)):
        for item in items[:NAMED_PROBLEMS]:
            click.echo(f"{word}: {item}", err=True)
        if (more := len(items) - NAMED_PROBLEMS) > 0:
            click.echo(f"{word}: and {more} more", err=True)
