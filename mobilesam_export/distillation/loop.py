"""The loop: batches, embeddings, steps; at the end of each epoch figures and a checkpoint."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.batches import Batch, Steps
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.held_out import Judge
from mobilesam_export.distillation.interruption import deferred_interrupts
from mobilesam_export.distillation.losses import embedding_loss
from mobilesam_export.distillation.masks import MaskLoss
from mobilesam_export.distillation.processes import Processes
from mobilesam_export.distillation.report import epochs_table
from mobilesam_export.distillation.state import Log, RunFolder
from mobilesam_export.distillation.trainer import Loss, Trainer
from mobilesam_export.errors import DistillationError
from mobilesam_export.progress import console, described_bar
from mobilesam_export.tables import columns

SAVE_SECONDS = 120  # between two states: what a kill costs at most


@dataclass
class Run:
    """All parts of a run, as one of its processes has them.

    Attributes:
        trainer: the student.
        steps: its batches.
        embedder: the teacher.
        judge: of the held-out images; None but in the main process.
        folder: of state and log.
        log: of all calls.
        processes: of the run.
        readers: processes that read images ahead.
        write: what writes an encoder as the student's checkpoint.
        masks: the loss of the second phase, if the plan has one.
    """

    trainer: Trainer
    steps: Steps
    embedder: Embedder
    judge: Judge | None
    folder: RunFolder
    log: Log
    processes: Processes
    readers: int
    write: Callable[[nn.Module], None]
    masks: MaskLoss | None = None

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.trainer.plan.total

    def train(self) -> None:
        """Train to the end of the run.

        Raises:
            DistillationError: Ctrl-C, or the loss is not finite; what was reached is kept.
            OutputError: a full disk, for example; the last state is kept.
            ImageError: a file cannot be read any more.
        """
        if self.trainer.step == 0 and not self.log.epochs:
            self._end_epoch()
        with deferred_interrupts() as stop, self._bar() as advance:
            saved = time.monotonic()
            for images_per_second in self._timed_steps():
                advance(f"loss {self.log.losses[-1]:.4g}, {images_per_second:.1f} images/s")
                if self._epoch_ends():
                    self._end_epoch()
                    saved = time.monotonic()
                elif time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
                self._stop_if(stop.received)

    def _timed_steps(self) -> Iterator[float]:
        """Do step after step; after each, the images per second of this call so far."""
        first, seconds = self.trainer.step, 0.0
        before = time.monotonic()
        for batch in self.steps.load(first, self.total, self.readers):
            self.log.losses.append(self._step(batch))
            passed = time.monotonic() - before
            seconds += passed
            self.log.seconds += passed
            yield (self.trainer.step - first) * self.steps.batch / seconds
            before = time.monotonic()  # figures and checkpoints do not count

    def _step(self, batch: Batch) -> float:
        pixels = batch.pixels.to(self.processes.device, non_blocking=True)
        expected = self.embedder.embed(pixels, batch.keys)
        try:
            return self.trainer.train_step(pixels, expected, self._mask_loss(batch))
        except DistillationError as exc:
            self._save()
            raise DistillationError(
                f"{exc}; the state before it is kept: begin again with a lower --learning-rate and "
                "another --out"
            ) from exc

    def _mask_loss(self, batch: Batch) -> Loss | None:
        """Of masks and embeddings, where the step compares both."""
        masks, plan, step = self.masks, self.trainer.plan, self.trainer.step
        if masks is None or not plan.compares_masks(step):
            return None

        def loss(found: Tensor, expected: Tensor) -> Tensor:
            apart = embedding_loss(found, expected, plan.loss)
            return schedule.EMBEDDING_WEIGHT * apart + masks(found, expected, batch, step)

        return loss

    def _bar(self) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        if not self.processes.main:
            return contextlib.nullcontext(lambda text: None)
        return described_bar(self.total, self.trainer.step)

    def _epoch_ends(self) -> bool:
        """Whether the last step has begun a new pass over the images, or was the last of all."""
        step, images = self.trainer.step, self.steps.order.images
        samples = step * self.steps.batch
        return step == self.total or samples // images > (samples - self.steps.batch) // images

    def _end_epoch(self) -> None:
        step = self.trainer.step
        if self.judge:
            done = self.log.epochs[-1]["step"] if self.log.epochs else 0
            recent = self.log.losses[done:]
            with self.trainer.result() as encoder:
                figures = self.judge.figures(encoder)
            self.log.epochs.append(
                {
                    "epoch": round(step * self.steps.batch / self.steps.order.images, 2),
                    "step": step,
                    "loss": float(np.mean(recent)) if recent else None,
                    **figures,
                }
            )
            console.print(columns(as_table(epochs_table(self.log.epochs[-1:]))), soft_wrap=True)
        self._save()
        if self.processes.main and step:
            self.write_result()
        self.processes.wait()
        self.embedder.cache.refresh()  # the next epoch needs what other processes have computed

    def write_result(self) -> None:
        """Write the student's checkpoint."""
        with self.trainer.result() as encoder:
            self.write(encoder)

    def _save(self) -> None:
        self.embedder.cache.flush()
        if self.processes.main:
            self.folder.save(self.trainer.state(), self.log)

    def _stop_if(self, requested: bool) -> None:
        """Save and stop where any process was asked to, unless this was the last step."""
        (share,) = self.processes.mean(float(requested))
        if share and self.trainer.step < self.total:
            self._save()
            raise DistillationError(
                f"interrupted after step {self.trainer.step} of {self.total}; the same command "
                "goes on from there"
            )


def as_table(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, for `tables.columns`."""
    return rows[0], rows[1:]
