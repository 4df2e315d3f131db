"""The paper's claim, tried: what a student learns in the same steps, decoupled or coupled.

    python -m benchmarks.decoupled

trains the same student from the same start on the same generated scenes at 256 with the demo
weights as teacher, in the three ways that MobileSAM's paper names: *decoupled* holds embeddings to
the teacher's, *semi-coupled* masks through the teacher's frozen decoder, *coupled* masks through a
decoder that begins as the teacher's and trains as well. It writes `benchmarks/results/
decoupled.json` and a plot beside it. Masks are compared with the teacher's on held-out scenes.
"""

import copy
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.tables import RESULTS
from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.batches import Batch, Order, Steps
from mobilesam_export.distillation.dataset import ImageSet, open_images
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.embeddings import EmbeddingCache
from mobilesam_export.distillation.held_out import Judge, open_held_out
from mobilesam_export.distillation.masks import MaskLoss
from mobilesam_export.distillation.processes import Processes
from mobilesam_export.distillation.student import build_student
from mobilesam_export.distillation.teacher import Teacher, load_teacher
from mobilesam_export.distillation.trainer import Plan, Trainer
from mobilesam_export.files import write_json
from mobilesam_export.model import Sam

WAYS = ("decoupled", "semi-coupled", "coupled")
SIZE, BATCH, STUDENT, PARTS = 256, 8, "half", 8
CPU = torch.device("cpu")
Figures = dict[str, Any]


class Way:
    """One of WAYS, with a student of its own."""

    def __init__(self, name: str, start: Sam, steps: int, learning_rate: float) -> None:
        self.name, self.student = name, copy.deepcopy(start)
        self.masks = None if name == "decoupled" else MaskLoss(start, self.student)
        plan = Plan(steps, learning_rate, "mse")
        if self.masks:  # the whole run is what is a second phase elsewhere
            plan = Plan(0, learning_rate / schedule.MASK_SHARE, "mse", mask_steps=steps)
        self.plan = plan
        self.trainer = Trainer(self.student.image_encoder, plan, Processes(0, 1, CPU))
        decoder = list(self.student.mask_decoder.parameters()) if name == "coupled" else []
        for parameter in decoder:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(decoder, weight_decay=0.0) if decoder else None

    def step(self, batch: Batch, expected: torch.Tensor) -> None:
        """Learn from one batch, as `distill` does, and the decoder with it if it is trained."""
        step = self.trainer.step
        loss = None
        if self.masks:
            loss = partial(self.masks, batch=batch, step=step)
        if self.optimizer:
            self.optimizer.zero_grad(set_to_none=True)
            self.optimizer.param_groups[0]["lr"] = self.plan.learning_rate_at(step)
        self.trainer.train_step(batch.pixels, expected, loss)
        if self.optimizer:
            torch.nn.utils.clip_grad_norm_(
                self.student.mask_decoder.parameters(), schedule.CLIP_NORM
            )
            self.optimizer.step()


def trained(way: Way, steps: Steps, embedder: Embedder, judge: Judge) -> list[Figures]:
    """Train to the end; figures before the first step and after each part."""
    ends = {round(part * way.plan.total / PARTS) for part in range(PARTS + 1)}
    rows, seconds = [], 0.0
    loaded = steps.load(0, way.plan.total, 0)
    for step in range(way.plan.total + 1):
        if step in ends:
            # Not the averaged weights, which are still far behind in so few steps.
            now = copy.deepcopy(way.student).requires_grad_(False)
            figures = replace(judge, student=now).figures(now.image_encoder)
            mean = float(np.mean(list(figures["iou"].values())))
            rows.append({"step": step, "seconds": round(seconds, 1), "mean_iou": mean, **figures})
            click.echo(f"{way.name}, step {step}: {rows[-1]}")
        if step < way.plan.total:
            batch = next(loaded)
            expected = embedder.embed(batch.pixels, batch.keys)
            before = time.process_time()
            way.step(batch, expected)
            seconds += time.process_time() - before
    return rows


def opened(folder: Path, steps: int, held_out: int) -> tuple[ImageSet, Teacher, Embedder]:
    """Scenes, each seen once, and the teacher with a cache for all ways."""
    images = open_images(f"scenes:{steps * BATCH}", SIZE, held_out, folder / "images.json")
    teacher = load_teacher("demo", SIZE, CPU)
    cache = EmbeddingCache(folder / "embeddings", teacher.sha256, SIZE, 10**10)
    return images, teacher, Embedder(teacher, cache)


@click.command()
@click.option("--steps", default=150, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--held-out", default=20, show_default=True)
@click.option("--out", default=RESULTS / "decoupled.json", type=click.Path(path_type=Path))
def main(steps: int, learning_rate: float, held_out: int, out: Path) -> None:
    """Train all ways and write what they came to."""
    contract = Contract(SIZE, DEFAULT_POINTS, PLAIN_FORM)
    ways: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images, teacher, embedder = opened(Path(folder), steps, held_out)
        start = build_student(STUDENT, "seeded", teacher, SIZE).student
        judge = Judge(open_held_out(images.held_out, embedder, contract, CPU), start, contract, CPU)
        batches = Steps(images, Order(len(images.training), 1, 0), contract, BATCH)
        for name in WAYS:
            ways[name] = trained(Way(name, start, steps, learning_rate), batches, embedder, judge)
            write_json(out, {"steps": steps, "learning_rate": learning_rate, "ways": ways})
    plot(ways, out.with_suffix(".png"))


def plot(ways: dict[str, list[Figures]], path: Path) -> None:
    """Mean IoU by step, one line for each way."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, rows in ways.items():
        axes.plot(
            [row["step"] for row in rows], [row["mean_iou"] for row in rows], "o-", ms=3, label=name
        )
    axes.set_xlabel(f"step of {BATCH} scenes at {SIZE}")
    axes.set_ylabel("mean IoU with the teacher's masks")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
