"""A student beside its teacher: masks, and size and time of its encoder's files.

    mobilesam-export distill scenes:6400 --teacher demo --init demo --student half \
        --image-size 512 --steps 600 --held-out 16 -o build/half.safetensors
    python -m benchmarks.student build/half.safetensors

Masks are the student's against the teacher's, both in PyTorch, on 100 held-out scenes. Every target
exports the student by its default recipe and verifies it; of recipes that are run by what they are
made for, the student's encoder and the teacher's alternate in one process with two threads.
"""

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks import arithmetic, recipe_latency
from benchmarks.rounds import ratio
from benchmarks.tables import RESULTS
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.commands.all import exportable_targets
from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.distillation.dataset import open_images
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.embeddings import EmbeddingCache
from mobilesam_export.distillation.held_out import Judge, open_held_out
from mobilesam_export.distillation.teacher import load_teacher
from mobilesam_export.files import write_json
from mobilesam_export.model import build_sam
from mobilesam_export.target import Target

RESULT = RESULTS / "student.json"
CPU = torch.device("cpu")
TIMED = ("onnx:float32", "onnx:w8-dynamic", "tflite:float32", "tflite:w8-dynamic")
ROUNDS = 20


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.option("--teacher", default="demo", show_default=True)
@click.option("--image-size", "side", default=512, show_default=True)
@click.option("--scenes", default=100, show_default=True, help="Held out.")
def main(checkpoint: Path, teacher: str, side: int, scenes: int) -> None:
    """Measure CHECKPOINT."""
    found: dict[str, Any] = {"teacher": teacher, "image_size": side, "scenes": scenes}
    found["machine"] = this_machine().as_dict()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        found["masks"] = masks(checkpoint, teacher, side, scenes, work)
        click.echo(json.dumps(found["masks"]))
        found["encoders"] = {
            label: beside(label, checkpoint, teacher, side, work) for label in TIMED
        }
        write_json(RESULT, found)
        found["targets"] = {
            target.name: exported(target, checkpoint, side, work)
            for target in exportable_targets()[0]
        }
    write_json(RESULT, found)


def masks(checkpoint: Path, teacher: str, side: int, scenes: int, work: Path) -> dict[str, Any]:
    """How near the student's embeddings and masks are to the teacher's."""
    loaded = load_teacher(teacher, side, CPU)
    contract = Contract(side, DEFAULT_POINTS, PLAIN_FORM)
    images = open_images(f"scenes:{4 * scenes}", side, scenes, work / "images.json").held_out
    embedder = Embedder(loaded, EmbeddingCache(work / "cache", loaded.sha256, side, 0, 0))
    sam = build_sam(load_checkpoint(str(checkpoint)).state_dict, side)
    judge = Judge(open_held_out(images, embedder, contract, CPU), sam, contract, CPU)
    return judge.figures(sam.image_encoder.eval())


def beside(label: str, checkpoint: Path, teacher: str, side: int, work: Path) -> dict[str, Any]:
    """Size and time of the student's encoder, and of both as a share of the teacher's."""
    target, _, recipe = label.partition(":")
    encoders, sizes = {}, {}
    for name, source in (("student", checkpoint), ("teacher", teacher)):
        folder = work / f"{name}-{target}-{recipe}"
        options = ["-r", recipe, "--image-size", side, "--no-verify", "-o", folder]
        done = arithmetic.ask(target, "-c", source, *options)
        sizes[name] = next(iter(done["bytes"].values()))  # the encoder's comes first
        encoders[name] = recipe_latency.bundle_encoder(folder)
    times = recipe_latency.interleaved(encoders, ROUNDS)
    found = {
        "bytes": sizes["student"],
        "bytes_ratio": round(sizes["student"] / sizes["teacher"], 3),
        "median_ms": round(median(times["student"]), 1),
        "time_ratio": ratio(times["student"], times["teacher"]),
    }
    click.echo(f"{label} {json.dumps(found)}")
    return found


def exported(target: Target, checkpoint: Path, side: int, work: Path) -> dict[str, Any]:
    """What an export by the target's default recipe comes to."""
    folder = work / f"default-{target.name}"
    done = arithmetic.ask(target.name, "-c", checkpoint, "--image-size", side, "-o", folder)
    found = {
        "recipe": target.default_recipe,
        "bytes": done["bytes"],
        "fitted": done["fit"] is not None,
        "verification": done["verification"],
    }
    click.echo(f"{target.name} {json.dumps(found)}")
    return found


if __name__ == "__main__":
    main()
