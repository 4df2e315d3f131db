"""`mobilesam-export sweep`: parse, call, print."""

from pathlib import Path
from typing import Any

import click

from mobilesam_export.commands.common import (
    FAILED,
    JSON,
    OK,
    RAY,
    WORKERS,
    SizeType,
    image_options,
    print_json,
)

PATH = click.Path(path_type=Path)


@click.command("sweep")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET[:RECIPE]...")
@click.option("-o", "--out", required=True, type=PATH, help="Folder of bundles and figures.")
@click.option(
    "-c",
    "--checkpoint",
    "checkpoints",
    multiple=True,
    default=("official",),
    show_default=True,
    help="Weights; give it again for more.",
)
@click.option(
    "--image-size",
    "image_sizes",
    multiple=True,
    type=SizeType(),
    default=("1024",),
    show_default=True,
    help="Side of the square input, or width and height; give it again for more.",
)
@image_options
@click.option("--no-fit", is_flag=True, help="Do not fit recipes that do not hold.")
@RAY
@WORKERS
@JSON
def sweep_command(as_json: bool, no_fit: bool, **values: Any) -> int:
    """Export and evaluate recipes, sizes and weights.

    Every combination of them. TARGET stands for all its recipes. Called again, it does what is not
    there yet. Files that fail verification are evaluated as well, and the exit code is then 3.
    Times are those of the evaluation, of one run after another: `benchmark` measures latency.

    \b
    Example:
      mobilesam-export sweep onnx tflite:w8-dynamic -c demo --image-size 512 -o build/sweep
      mobilesam-export sweep onnx -c a.pt -c b.pt --images photos --ray local -o build/sweep
    """
    from mobilesam_export.sweep.points import SweepOptions
    from mobilesam_export.sweep.run import run
    from mobilesam_export.tables import columns

    result = run(SweepOptions(**values, fit=not no_fit))
    if as_json:
        print_json({"points": list(result.rows)})
    else:
        click.echo(columns(result.table()))
    whole = all(row.get("status") == "passed" for row in result.rows)
    return OK if whole else FAILED
