"""`mobilesam-export compare`: the gate for continuous integration."""

from pathlib import Path
from typing import Any

import click

LIMIT_FORM = "NAME=NUMBER"


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--component",
    "components",
    multiple=True,
    type=click.Choice(["encoder", "decoder"]),
    help="Time only this file; may be repeated. [default: both]",
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
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write a .md.")
@click.option("--junit", "junit_path", type=click.Path(path_type=Path), help="Write a .xml.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare_command(base: Path, candidate: Path, **options: Any) -> int:
    """Is CANDIDATE slower than BASE, or worse in any figure that has no noise?

    BASE is a bundle, or a file of `benchmark --save`; times of a file are never compared. The
    times of two bundles are: in pairs, interleaved, until a bootstrap interval settles it. Exit
    code 3: slower beyond doubt, or a figure over its limit.

    \b
    Example:
      mobilesam-export compare build/onnx-float32 build/onnx-float16 --limit mask_iou=0.9
    """
    from mobilesam_export.compare import run

    return run.run(base, candidate, options)
