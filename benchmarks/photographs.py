"""Masks of recipes on 20 photographs, PyTorch's own as the truth.

    python -m benchmarks.photographs [--recipe TARGET:RECIPE] [--image-size 256] [--clicks 1]

The photographs come with dependencies of the tests: scikit-image (17), scikit-learn (2),
Matplotlib (1). `evaluate` clicks on a grid of places, three a side, and boxes what PyTorch finds
there. Demo weights. Rows of `benchmarks/results/photographs.json` are replaced one by one.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import matplotlib.cbook
import skimage.data
import sklearn.datasets
from PIL import Image

from benchmarks.arithmetic import ask
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export.backends import get_backend
from mobilesam_export.target import builtin_targets, load_target

RESULT = RESULTS / "photographs.json"
NAMES = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "ihc", "moon", "motorcycle_left", "motorcycle_right", "retina"),
    *("rocket", "clock_motion"),
)


def write_photographs(folder: Path) -> int:
    """Put them into a folder as PNG; how many."""
    paths = [path for path in Path(skimage.data.__file__).parent.iterdir() if path.stem in NAMES]
    paths += Path(sklearn.datasets.__file__).parent.joinpath("images").glob("*.jpg")
    paths.append(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    for path in paths:
        Image.open(path).convert("RGB").save(folder / f"{path.stem}.png")
    return len(paths)


@click.command()
@click.option(
    "--recipe", "recipes", multiple=True, help="TARGET:RECIPE. [default: every default here]"
)
@click.option("--image-size", default=1024, show_default=True)
@click.option("--clicks", default=3, show_default=True, help="A side.")
def main(recipes: tuple[str, ...], image_size: int, clicks: int) -> None:
    """Export each recipe, and evaluate it."""
    targets = [load_target(name) for name in builtin_targets()]
    defaults = [
        f"{target.name}:{target.default_recipe}"
        for target in targets
        if not get_backend(target.backend).why_cannot_convert()
    ]
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        images.mkdir()
        count = write_photographs(images)
        for label in recipes or defaults:
            target, _, recipe = label.partition(":")
            bundle = Path(scratch) / f"{target}-{recipe}"
            options = ["-r", recipe, "--image-size", image_size, "-o", bundle, "--no-verify"]
            ask(target, "-c", "demo", *options)
            asked = ["--images", images, "--clicks", clicks]
            found = ask("evaluate", bundle, *asked, "-c", "demo")
            write({"recipe": label, "size": image_size, "photographs": count, **found})


def write(row: dict[str, Any]) -> None:
    """Put a row in the place of the same one."""
    replace_row(RESULT, row, ("recipe", "size"))
    click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
