"""`mobilesam-export ladder`: parse, call, print."""

from pathlib import Path
from typing import Any

import click

from mobilesam_export.commands.common import FAILED, JSON, OK, print_json

PATH = click.Path(path_type=Path)


@click.command("ladder")
@click.argument("target", metavar="TARGET[:RECIPE]")
@click.option("-o", "--out", required=True, type=PATH, help="Folder of bundles and figures.")
@click.option(
    "--sizes",
    required=True,
    metavar="N|WxH,...",
    help="Sides of squares, and width and height of rectangles, with commas between.",
)
@click.option("-c", "--checkpoint", default="official", show_default=True, help="The weights.")
@click.option("--images", type=PATH, help="Folder of images like the app's. [default: scenes]")
@click.option("--scenes", default=10, show_default=True, help="Held-out scenes, without --images.")
@click.option("--limit", type=click.IntRange(1), help="Largest number of images.")
@click.option("--threads", default=0, help="CPU threads of one run. [default: all cores]")
@click.option("--rounds", default=10, show_default=True, help="Runs of each file, in turn.")
@click.option("--max-ms", type=float, help="Budget for encoder and decoder together.")
@click.option("--max-mb", type=float, help="Budget for the encoder's weights and activations.")
@JSON
def ladder_command(as_json: bool, sizes: str, **values: Any) -> int:
    """Compare image sizes and shapes, and say which to take.

    By masks, time, memory and file size. Masks are held to those of PyTorch on the square of 1024.
    Called again, it goes on where it was, and times what is there anew. The folder then has
    ladder.json and ladder.png as well.

    \b
    Example:
      mobilesam-export ladder tflite -c demo --sizes 1024,1024x768,768,512 -o build/ladder
      mobilesam-export ladder onnx --sizes 1024,512 --images photos --max-ms 200 -o build/ladder
    """
    from mobilesam_export import packages
    from mobilesam_export.sweep.rungs import LadderOptions, pareto, recommended, table
    from mobilesam_export.tables import columns

    packages.require("matplotlib", "scipy", extra="measure")
    options = LadderOptions(sizes=tuple(filter(None, sizes.split(","))), **values)
    from mobilesam_export.sweep.ladder import run

    rungs = run(options)
    chosen = recommended(rungs, options)
    best = [rung.size for rung in pareto(rungs)]
    asked = options.max_ms is not None or options.max_mb is not None
    if as_json:
        sizes_found = {"pareto": best, "recommended": chosen.size if asked and chosen else None}
        print_json({"rungs": [rung.as_dict() for rung in rungs], **sizes_found})
    else:
        click.echo(columns(table(rungs)))
        click.echo(f"no other is both cheaper and better: {', '.join(best)}")
        if asked and chosen:
            click.echo(f"within the budget: {chosen.size} ({options.out / chosen.bundle})")
    if asked and chosen is None:
        click.echo("no size is within the budget", err=True)
        return FAILED
    return OK if all(rung.status == "passed" for rung in rungs) else FAILED
