"""What a recipe starts from: ranges of activations by four methods, whole numbers by two.

    python -m benchmarks.starts [--image-size 256] [--scenes 10]

Exports `onnx` w8a8 with ranges of activations by each method, and w8a8, w8 and w4 with weights
rounded to the nearest and by what that does to products, and compares the masks with PyTorch's on
scenes that nothing is calibrated on. Demo weights. Writes `benchmarks/results/starts.json`, row by
row.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.recipes import FIRST_SEED, Run, accuracy
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.model import build_sam
from mobilesam_export.pipeline import Job, export
from mobilesam_export.target import Recipe, load_target

RESULT = RESULTS / "starts.json"
TARGET = load_target("onnx")


def variants() -> Iterator[tuple[str, str, Recipe]]:
    """Recipe, how it starts, and the recipe so changed."""
    w8a8 = TARGET.recipes["w8a8"]
    for method in ("minmax", "mse", "entropy"):
        yield "w8a8", method, replace(w8a8, quantize={**w8a8.quantize, "ranges": method})
    for percentile in (99.99, 99.999):
        table = {**w8a8.quantize, "ranges": "percentile", "percentile": percentile}
        yield "w8a8", f"percentile {percentile}", replace(w8a8, quantize=table)
    yield "w8a8", "mse, weights nearest", replace(w8a8, calibrate_weights=False)
    for recipe in ("w8", "w4"):
        for calibrated, name in ((False, "nearest"), (True, "compensated")):
            yield recipe, name, replace(TARGET.recipes[recipe], calibrate_weights=calibrated)


@click.command()
@click.option("--image-size", "side", default=256, show_default=True)
@click.option("--scenes", default=10, show_default=True)
@click.option("--only", default="", help="of starts whose RECIPE START begins with this")
def main(side: int, scenes: int, only: str) -> None:
    """Measure each start."""
    sam = build_sam(load_checkpoint("demo").state_dict, side)
    with tempfile.TemporaryDirectory() as scratch:
        run = Run("demo", sam, side, scenes, Path(scratch))
        for recipe_name, start, recipe in variants():
            if not f"{recipe_name} {start}".startswith(only):
                continue
            target = replace(TARGET, recipes={**TARGET.recipes, recipe_name: recipe})
            folder = Path(scratch) / f"{recipe_name}-{start}"
            export(Job(target, recipe_name, "demo", folder, side, verify=False))
            key = {"recipe": f"onnx:{recipe_name}", "start": start, "size": side}
            write(key | {"first_seed": FIRST_SEED} | accuracy(run, folder))


def write(row: dict[str, Any]) -> None:
    """Put a row in the place of the same one."""
    replace_row(RESULT, row, ("recipe", "start", "size"))
    click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
