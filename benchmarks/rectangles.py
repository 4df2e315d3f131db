"""Rectangles beside the square: masks by margin, and the encoder's time and products.

    python -m benchmarks.rectangles masks 1024x768 --margin 0 --margin 96
    python -m benchmarks.rectangles photographs 1024x768
    python -m benchmarks.rectangles encoders 1024x768 1024x576

`masks`: PyTorch on the rectangle against PyTorch on the square, demo weights, every object of
held-out scenes of that shape by click and by box. `photographs`: the same on 20 photographs, cut
to that shape around their centre, with clicks on a grid of nine places and boxes around what the
square finds there. `encoders`: float32 files of `onnx` and `tflite`, every shape and the square in
turn in one process, two threads.
"""

import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from benchmarks import recipe_latency
from benchmarks.photographs import write_photographs
from benchmarks.rounds import ratio
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import PLAIN_FORM, Contract
from mobilesam_export.contract.frame import Frame, frame_of, square
from mobilesam_export.graphs import split_graphs
from mobilesam_export.inspection.macs import count_macs
from mobilesam_export.metrics import mask_iou
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import bounding_box, scene
from mobilesam_export.target import load_target
from mobilesam_export.verification.square import agreement, scenes

RESULT = RESULTS / "rectangles.json"
ABOUT = {"description": "", "version": "", "author": "", "license": ""}
GRID = (0.25, 0.5, 0.75)
THREADS, ROUNDS = 2, 12


def predictor(frame: Frame) -> Predictor:
    """PyTorch with the demo weights."""
    contract = Contract(frame.side, 6, PLAIN_FORM, frame=None if frame.is_square else frame)
    return reference.load(build_sam(load_checkpoint("demo").state_dict, frame), contract)


@click.group()
def main() -> None:
    """Measure; rows of the JSON are replaced one by one."""
    torch.set_num_threads(THREADS)


@main.command()
@click.argument("shape")
@click.option("--margin", "margins", type=int, multiple=True, help="[default: the default]")
@click.option("--scenes", "count", default=24, show_default=True)
def masks(shape: str, margins: tuple[int, ...], count: int) -> None:
    """Every object of held-out scenes."""
    for margin in margins or (None,):
        frame = frame_of(shape, margin)
        found = agreement(predictor(square(frame.side)), predictor(frame), scenes(frame, count))
        figures = {"objects": found.objects, "click": found.click, "box": found.box}
        write("scenes", frame, {"images": count, **figures, "worst": found.worst})


@main.command()
@click.argument("shape")
@click.option("--margin", type=int)
def photographs(shape: str, margin: int | None) -> None:
    """Nine places of each of 20 photographs."""
    frame = frame_of(shape, margin)
    both = predictor(square(frame.side)), predictor(frame)
    found: dict[str, list[float]] = {"click": [], "box": []}
    with tempfile.TemporaryDirectory() as folder:
        count = write_photographs(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            for kind, iou in answers(cut(Image.open(path), frame), *both):
                found[kind].append(iou)
    means = {kind: float(np.mean(values)) for kind, values in found.items()}
    worst = min(min(values) for values in found.values())
    write(
        "photographs",
        frame,
        {"images": count, "objects": len(found["box"]), **means, "worst": worst},
    )


def cut(image: Image.Image, frame: Frame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The largest part of exactly the frame's shape, around the centre."""
    common = math.gcd(frame.width, frame.height)
    columns, rows = frame.width // common, frame.height // common
    times = min(image.width // columns, image.height // rows)
    width, height = columns * times, rows * times
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def answers(
    image: np.ndarray[Any, np.dtype[np.uint8]], whole: Predictor, part: Predictor
) -> Iterator[tuple[str, float]]:
    """Kind of prompt and IoU of both masks, where the square finds anything."""
    height, width, _ = image.shape
    first, second = whole.embed(image), part.embed(image)
    for y in GRID:
        for x in GRID:
            clicked = Prompt(((x * width, y * height, True),))
            truth = whole.predict(clicked, first).mask
            if not truth.any():
                continue
            yield "click", mask_iou(part.predict(clicked, second).mask, truth)
            boxed = Prompt(box=bounding_box(truth))
            yield (
                "box",
                mask_iou(part.predict(boxed, second).mask, whole.predict(boxed, first).mask),
            )


@main.command()
@click.argument("shapes", nargs=-1)
@click.option("--margin", type=int)
@click.option("--target", "targets", multiple=True, default=("onnx", "tflite"))
def encoders(shapes: tuple[str, ...], margin: int | None, targets: tuple[str, ...]) -> None:
    """Time and products of float32 encoders, relative to the square's."""
    frames = [frame_of(shape, margin) for shape in shapes]
    frames = [square(frames[0].side), *frames]
    for name in targets:
        target = load_target(name)
        backend, (_, recipe) = get_backend(target.backend), target.recipe("float32")
        settings = backend.parse_recipe(recipe, target.graph, target.convert)
        runs, macs = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            for frame in frames:
                sam = build_sam(load_checkpoint("demo").state_dict, frame)
                contract = Contract(frame.side, 6, target.graph, frame=frame)
                graph = split_graphs(sam, contract)[0]
                path = Path(folder) / f"{frame}{backend.suffix}"
                backend.convert(graph, Conversion(settings, recipe, contract, ABOUT), path)
                session = backend.load(path, graph.spec, threads=THREADS)
                pixels = {"image": scene(0, *frame.shape)[None]}
                runs[str(frame)] = lambda session=session, pixels=pixels: session.run(pixels)
                described = backend.describe(path)
                macs[str(frame)] = count_macs(described.nodes, described.dialect).total
            times = recipe_latency.interleaved(runs, ROUNDS)
        base = str(frames[0])
        for frame in frames[1:]:
            figures = {
                "target": name,
                "median_ms": round(statistics.median(times[str(frame)]), 1),
                "time_ratio": ratio(times[str(frame)], times[base]),
                "macs_ratio": round(macs[str(frame)] / macs[base], 3),
                "machine": this_machine().as_dict(),
            }
            write(f"encoder {name}", frame, figures)


def write(kind: str, frame: Frame, figures: dict[str, Any]) -> None:
    """Put a row in the place of the same one."""
    row = {"kind": kind, "shape": str(frame), "margin": frame.margin, **figures}
    replace_row(RESULT, row, ("kind", "shape", "margin"))
    click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
