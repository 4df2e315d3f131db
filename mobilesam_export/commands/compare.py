"""`mobilesam-export compare`, the gate for continuous integration: parse, call, print, write."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import (
    FAILED,
    JSON,
    OK,
    check_outputs,
    print_json,
    print_text,
    styled,
)
from mobilesam_export.errors import InterruptedMeasurement
from mobilesam_export.files import write_json, write_text
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:
    from mobilesam_export.compare.comparison import Comparison

LIMIT_FORM = "NAME=NUMBER"


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--component",
    "components",
    multiple=True,
    type=click.Choice(["encoder", "decoder", "prepare", "decoder_prepared"]),
    help="Time only this file; may be repeated. [default: all that both have]",
)
@click.option("--device", default="", help="Where to time. [default: the backend's first]")
@click.option(
    "--threads",
    default=1,
    show_default=True,
    help="CPU threads of one run. With one, other work on the machine disturbs least.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar=LIMIT_FORM,
    help="Change a limit: time=1.2, macs=1.1, mask_iou=0.95, ... May be repeated.",
)
@click.option("--max-pairs", default=200, show_default=True, help="Then it stays inconclusive.")
@click.option("--max-seconds", default=135.0, show_default=True, help="The same, for all files.")
@click.option("--no-times", is_flag=True, help="Only the figures that have no noise.")
@click.option("--save", type=click.Path(path_type=Path), help="Keep everything in a .json file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a .md.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a .xml.")
@JSON
def compare_command(
    save: Path | None,
    markdown: Path | None,
    junit: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Say whether CANDIDATE is slower or worse than BASE.

    BASE is a bundle, or a file of `benchmark --save`; times of a file are never compared. The
    times of two bundles are: in pairs, interleaved, until a bootstrap interval settles it. Exit
    code 3: slower beyond doubt, or a figure without noise, such as size, over its limit.

    \b
    Example:
      mobilesam-export compare build/onnx-float32 build/onnx-float16 --limit mask_iou=0.9
    """
    from mobilesam_export.compare.run import CompareOptions, run

    check_outputs({".json": save, ".md": markdown, ".xml": junit})
    comparison = run(CompareOptions(**values))
    if as_json:
        print_json(comparison.as_dict())
    else:
        print_comparison(comparison)
    write_comparison(comparison, save, markdown, junit)
    if comparison.partial:
        pairs = sum(item.count for item in comparison.pairs.values())
        raise InterruptedMeasurement(f"interrupted; {pairs} pairs are kept, marked partial")
    return FAILED if comparison.status is Status.FAILED else OK


def print_comparison(comparison: "Comparison") -> None:
    """Tables for a terminal, and the outcome in color."""
    from mobilesam_export.compare.text import outcome, terminal

    for part in terminal(comparison):
        print_text(part + "\n")
    click.echo(styled(outcome(comparison), comparison.status))


def write_comparison(
    comparison: "Comparison", save: Path | None, markdown: Path | None, junit: Path | None
) -> None:
    """The files that were asked for.

    Raises:
        OutputError: one cannot be written.
    """
    from mobilesam_export.compare.junit import junit as as_junit
    from mobilesam_export.compare.text import comparison_markdown

    if save:
        write_json(save, comparison.as_dict())
    if markdown:
        write_text(markdown, comparison_markdown(comparison))
    if junit:
        write_text(junit, as_junit(comparison))
