"""How much of a recipe's damage training undoes, measured on files.

    python -m benchmarks.recovery [--image-size 256] [--steps 150] [--only onnx:w4] [--weights demo]

Each row exports a recipe (`--no-fit`) for given weights, trains the encoder to bear it (`distill
--student TARGET:RECIPE` on generated scenes), and exports again from the checkpoint. Both bundles
are compared with the float32 model of the given weights on held-out scenes: the encoder's file with
the float32 decoder, which is what is trained, and both files together. Rows go into
`benchmarks/results/recovery.json` one by one; those that are there are measured again only with
`--again`, and one that was interrupted goes on where it was, in the folder `build/recovery`.

`--student FILE` takes the checkpoint of a run elsewhere, and `--trained-on` says where that was.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import arithmetic
from benchmarks.recipes import KINDS, Run, ask, reference_answers
from benchmarks.tables import RESULTS, ROOT, replace_row
from mobilesam_export import metrics
from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array
from mobilesam_export.model import build_sam
from tests.stress_weights import Weights, scale_heads

RESULT = RESULTS / "recovery.json"
FOLDER = ROOT / "build" / "recovery"
STUDENTS = ("onnx:w4", "onnx:w8-dynamic", "coreml:w8a8")
WEIGHTS: dict[str, Callable[[Weights], Weights]] = {
    "demo": dict,
    "heads=1.0": partial(scale_heads, sigma=1.0, seed=0),
}
NAMES = ("weights", "recipe", "size", "steps")
BATCH, IMAGES = 2, 400


@click.command()
@click.option("--image-size", "side", default=512, show_default=True)
@click.option("--steps", default=800, show_default=True)
@click.option("--scenes", default=10, show_default=True, help="Held out.")
@click.option("--only", default="", help="A TARGET:RECIPE.")
@click.option("--weights", "names", multiple=True, type=click.Choice([*WEIGHTS]))
@click.option("--student", type=click.Path(path_type=Path, exists=True))
@click.option("--trained-on", default="2 cores", show_default=True)
@click.option("--again/--missing", help="Measure also what is there.")
def main(only: str, names: tuple[str, ...], *, again: bool, **options: Any) -> None:  # noqa: ANN401
    """Measure each recipe with each set of weights."""
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    for recipe in STUDENTS:
        for name in names or WEIGHTS:
            values = (name, recipe, options["side"], options["steps"])
            key = dict(zip(NAMES, values, strict=True))
            there = any(key.items() <= row.items() for row in kept)
            if recipe.startswith(only) and (again or not there):
                row = key | measured(key, options)
                replace_row(RESULT, row, NAMES)
                click.echo(json.dumps(row))


def measured(key: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    folder = FOLDER / "-".join(str(value).replace(":", "-") for value in key.values())
    folder.mkdir(parents=True, exist_ok=True)
    given = folder / "given.safetensors"
    arithmetic.write_checkpoint(WEIGHTS[key["weights"]](arithmetic.demo_weights()), given)
    student = options["student"] or folder / "student.safetensors"
    seconds = None if options["student"] else trained(key, given, student)
    sam = build_sam(load_checkpoint(str(given)).state_dict, key["size"])
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(str(given), sam, key["size"], options["scenes"], Path(scratch))
        found = {
            state: figures(run, exported(key, checkpoint, Path(scratch) / state))
            for state, checkpoint in (("before", given), ("after", student))
        }
    return {
        "batch": BATCH,
        "seconds": seconds,
        "trained_on": options["trained_on"],
        **found,
        "won_back": {part: won_back(found, part) for part in ("encoder", "both")},
    }


def trained(key: dict[str, Any], given: Path, student: Path) -> float:
    """Train, or go on; seconds of training."""
    arguments = ["--teacher", given, "--student", key["recipe"], "--image-size", key["size"]]
    arguments += ["--steps", key["steps"], "--batch", BATCH, "-o", student]
    return float(arithmetic.ask("distill", f"scenes:{IMAGES}", *arguments)["seconds"])


def exported(key: dict[str, Any], checkpoint: Path, bundle: Path) -> Path:
    """A bundle by the recipe as it stands."""
    target, _, recipe = key["recipe"].partition(":")
    options = ["-r", recipe, "--image-size", key["size"], "--no-verify", "-o", bundle]
    arithmetic.ask(target, "-c", checkpoint, *options)
    return bundle


def figures(run: Run, bundle: Path) -> dict[str, Any]:
    """Masks of the encoder's file with the float32 decoder, and of both files, against float32."""
    opened = open_bundle(bundle)
    both, plain = opened.predictor(), reference.load(run.sam, opened.contract)
    predictors = {"encoder": replace(plain, encoder=both.encoder), "both": both}
    ious: dict[str, dict[str, list[float]]] = {
        part: {kind: [] for kind in KINDS} for part in predictors
    }
    psnr: list[float] = []
    for question in reference_answers(run, opened.contract):
        embedding: Array = np.empty(0)
        for part, predictor in predictors.items():
            embedding, _ = ask(predictor, question, ious[part])
        psnr.append(metrics.psnr_db(embedding, question.embeddings))
    return {
        "runtime": both.encoder.runtime,
        "scenes": len(psnr),
        "prompts": sum(len(values) for values in ious["both"].values()),
        "embedding_psnr_db": {"mean": round(float(np.mean(psnr)), 2), "min": round(min(psnr), 2)},
        "mask_iou": {part: round(mean(found), 6) for part, found in ious.items()},
    }


def mean(found: dict[str, list[float]]) -> float:
    """Over all prompts."""
    return float(np.mean([value for values in found.values() for value in values]))


def won_back(found: dict[str, Any], part: str) -> float:
    """The share of 1 - IoU that is gone."""
    before, after = (1 - found[state]["mask_iou"][part] for state in ("before", "after"))
    return float(round(1 - after / before, 3))


if __name__ == "__main__":
    main()
