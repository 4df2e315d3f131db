"""Recipes of `coreai`: sizes beside those of `coreml`, and masks in Apple's arithmetic.

`python -m benchmarks.coreai_recipes [--only RECIPE]` exports each recipe of the demo weights at
1024 for its size, and asks Core AI about every object of ten scenes by a click and by a box, as
`benchmarks.recipes` does, at `--image-size`: half a minute an encoder makes 1024 slow. It writes
`benchmarks/results/coreai_recipes.json` row by row. What is done lies under build/recipes/, and is
not done again. Needs `pip install ".[coreai]"`, but not with `--beside`, which asks the files of
`coreml` by the recipe of the same name instead, whose int8 weights are chosen by their products.
"""

import argparse
import json
from typing import Any

from benchmarks import recipes
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.target import load_target

RESULT = RESULTS / "coreai_recipes.json"
SIZE = 1024  # of the files whose bytes are told
TARGET = load_target("coreai")


def main() -> None:
    """Measure the recipes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--only", default="", choices=("", *TARGET.recipes))
    parser.add_argument("--sizes", action="store_true", help="no masks")
    parser.add_argument("--beside", action="store_true", help="of coreml, by the interpreter")
    arguments = parser.parse_args()
    for name in TARGET.recipes:
        if arguments.only not in ("", name):
            continue
        if arguments.beside:
            write({"recipe": name, "coreml": masks(name, arguments.image_size, "coreml")})
        else:
            row = {"recipe": name, "bytes": sizes(name)}
            write(row)
            if not arguments.sizes:
                write(row | masks(name, arguments.image_size))


def run_at(side: int) -> recipes.Run:
    """The demo weights at a size, with the folder of what is done."""
    loaded = load_checkpoint("demo")
    return recipes.run_of(loaded, "demo", side)


def sizes(recipe: str) -> dict[str, int]:
    """Bytes of encoder and decoder at `SIZE`."""
    folder = recipes.exported(run_at(SIZE), TARGET, recipe)
    return recipes.part_bytes(recipes.written_files(folder))


def masks(recipe: str, side: int, target: str = TARGET.name) -> dict[str, Any]:
    """Mask IoU with PyTorch at a size."""
    row = recipes.measured(run_at(side), load_target(target), recipe)
    return {"image_size": side, **{k: v for k, v in row.items() if k not in ("key", "bytes")}}


def write(row: dict[str, Any]) -> None:
    """Put a row in the place of the recipe's, keeping figures that it lacks."""
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    old: dict[str, Any] = next((other for other in kept if other["recipe"] == row["recipe"]), {})
    print(json.dumps(row), flush=True)
    replace_row(RESULT, old | row, ("recipe",))


if __name__ == "__main__":
    main()
