"""Every default recipe and the int8 ones on weights that they were not tuned on: fitted or not.

    python -m benchmarks.fitting weights build/fitting
    python -m benchmarks.fitting measure build/fitting --image-size 256 [--only TARGET[:RECIPE]]
    python -m benchmarks.fitting measure build/fitting --image-size 1024 --weights demo \
        --only onnx:w8a8 --min-iou 0.995

The first writes the checkpoints into the folder: the demo weights, three networks made from them by
the rules of `tests.stress_weights` and one fine-tuned from them on scenes of its own. The second
exports every recipe with each of them as a user would, without an option, and puts the outcome
into `benchmarks/results/fitting.json`, row by row; rows that are there are not measured again but
with `--again`, nor those of targets whose extra is not installed. Wall time on a shared machine
says little, so processor time stands beside it.

With `--min-iou` the export is asked for a mean mask IoU, and the files that it ends with for every
object of ten scenes that it has not seen, by click and box.
"""

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import recipes
from benchmarks.arithmetic import Family, ask, demo_weights, write_checkpoint
from benchmarks.tables import RESULTS, replace_row
from benchmarks.train_demo import Stage, Trainer
from mobilesam_export.backends import get_backend
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.model import build_sam
from mobilesam_export.target import load_target
from tests.stress_weights import Weights, raise_channel, scale_heads, scale_mlp

RESULT = RESULTS / "fitting.json"
NAMES = ("weights", "target", "recipe", "size", "min_iou")  # of a row
EXPORTS = (
    ("onnx", "w8-dynamic"),
    ("onnx", "w8a8"),
    ("tflite", "w8-dynamic"),
    ("tflite", "w8a8"),
    ("coreml", "w8"),
    ("coreml", "w8a8"),
    ("coreml", "float16"),
    ("onnx", "float32"),
    ("onnx-sam", "float32"),
    ("tflite-gpu", "float16"),
    ("coreai", "float16"),
    ("coreai-segmenter", "float16"),
    ("executorch", "w8-dynamic"),
)
STEPS, SEEDS = 200, 7  # of the fine-tuning; which part of the training seeds it draws scenes from
TUNING = Stage(side=256, images=STEPS, batch=1, learning_rate=3e-4)
OUTLIER_SPREADS, OUTLIER_CHANNEL = 20, 100


def fine_tuned(weights: Weights) -> Weights:
    """A few hundred more steps on scenes that the weights have not seen; their moving average."""
    torch.manual_seed(SEEDS)
    trainer = Trainer(build_sam(weights, TUNING.side), (TUNING,) * (SEEDS + 1), "cpu")
    trainer.stage = SEEDS
    while not trainer.done:
        trainer.train_step()
    return {name: value.detach().clone() for name, value in trainer.average.state_dict().items()}


FAMILIES: Family = {
    "demo": dict,
    "outlier": lambda weights: raise_channel(weights, OUTLIER_SPREADS, OUTLIER_CHANNEL),
    "mlp=1.0": lambda weights: scale_mlp(weights, 1.0, 0),
    "mlp=1.0 heads=1.0": lambda weights: scale_heads(scale_mlp(weights, 1.0, 0), 1.0, 0),
    "fine-tuned": fine_tuned,
}


@click.group()
def main() -> None:
    """Checkpoints, and recipes fitted to them."""


@main.command("weights")
@click.argument("folder", type=click.Path(path_type=Path))
def write_weights(folder: Path) -> None:
    """Write those checkpoints that FOLDER lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in FAMILIES.items():
        path = folder / f"{name}.safetensors"
        if not path.exists():
            write_checkpoint(made(demo_weights()), path)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image-size", default=256, show_default=True)
@click.option("--only", default="", help="a TARGET or TARGET:RECIPE")
@click.option("--weights", "names", multiple=True, type=click.Choice([*FAMILIES]))
@click.option("--min-iou", type=float, help="A mean mask IoU that the export is asked for.")
@click.option("--again/--missing", help="Measure also what is there.")
def measure(
    folder: Path,
    image_size: int,
    only: str,
    names: tuple[str, ...],
    min_iou: float | None,
    *,
    again: bool,
) -> None:
    """Export by every recipe with the checkpoints of FOLDER."""
    for target, recipe in filter(can_be_exported, EXPORTS):
        for name in names or FAMILIES:
            if f"{target}:{recipe}:".startswith(only and f"{only}:"):
                key = dict(zip(NAMES, (name, target, recipe, image_size, min_iou), strict=True))
                if again or key not in [{n: row.get(n) for n in NAMES} for row in kept()]:
                    write(key | exported(key, folder / f"{name}.safetensors"))


def can_be_exported(export: tuple[str, str]) -> bool:
    """Whether what the target of an export needs is installed."""
    target, _ = export
    return not get_backend(load_target(target).backend).why_cannot_convert()


def exported(key: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """One export: how it ended, how long it took, what was raised."""
    options = ["-r", key["recipe"], "--image-size", key["size"]]
    asked = key["min_iou"] is not None
    if asked:
        options += ["--min-iou", key["min_iou"]]
    before, started = _processor_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        bundle = Path(work) / "bundle"
        found = ask(key["target"], "-c", checkpoint, *options, "-o", bundle)
        seconds, used = time.monotonic() - started, _processor_seconds() - before
        judged = asked and bundle.exists()
        scenes = {"scenes": on_scenes(checkpoint, key["size"], bundle)} if judged else {}
    report, fit = found["verification"], found["fit"]
    embeddings = [item["psnr_db"] for item in report["embeddings"]]  # none where a file is fused
    return {
        "status": report["status"],
        "failures": report["failures"],
        "embedding_psnr_db": min(embeddings, default=None),
        "mask_iou": min(item["mask_iou"] for item in report["prompts"]),
        "fit": fit,
        "size_ratio": _size_ratio(fit),
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        **scenes,
    }


def on_scenes(checkpoint: Path, side: int, bundle: Path) -> dict[str, Any]:
    """Masks of a bundle with PyTorch's, on the ten scenes of `benchmarks.recipes`."""
    run = recipes.run_of(load_checkpoint(str(checkpoint)), str(checkpoint), side)
    return recipes.accuracy(run, bundle)


def _size_ratio(fit: dict[str, Any] | None) -> float:
    """Of the fitted files to those of the recipe as it is."""
    return round(fit["bytes"]["fitted"] / fit["bytes"]["recipe"], 3) if fit else 1.0


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kept() -> list[dict[str, Any]]:
    """The rows that are there."""
    return list(json.loads(RESULT.read_text())["rows"]) if RESULT.exists() else []


def write(row: dict[str, Any]) -> None:
    """Put a row in the place of the same one."""
    replace_row(RESULT, row, NAMES)
    click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
