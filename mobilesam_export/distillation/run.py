"""`distill` from options to a checkpoint: images, teacher, student, cache, then the loop."""

import contextlib
import copy
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mobilesam_export import packages
from mobilesam_export.checkpoint.load import weights_sha256
from mobilesam_export.checkpoint.provenance import RECOVERED_FOR
from mobilesam_export.distillation.arithmetic import normalized
from mobilesam_export.distillation.batches import Order, Steps, square
from mobilesam_export.distillation.dataset import ImageSet, listed, open_images
from mobilesam_export.distillation.embedder import Embedder
from mobilesam_export.distillation.embeddings import EmbeddingCache, check_space, embedding_bytes
from mobilesam_export.distillation.held_out import Judge, open_held_out
from mobilesam_export.distillation.loop import Run
from mobilesam_export.distillation.masks import MaskLoss
from mobilesam_export.distillation.options import LEARNING_RATE, RECOVERY_RATES, DistillOptions
from mobilesam_export.distillation.processes import Processes, join_processes
from mobilesam_export.distillation.recovery import Damage, Recovery, parse_damage
from mobilesam_export.distillation.state import Log, RunFolder
from mobilesam_export.distillation.student import (
    Start,
    build_recovered,
    build_student,
    write_checkpoint,
)
from mobilesam_export.distillation.teacher import ENCODER, Teacher, load_teacher
from mobilesam_export.distillation.trainer import Plan, Trainer
from mobilesam_export.distillation.views import WHOLE
from mobilesam_export.errors import UsageError
from mobilesam_export.model import Sam
from mobilesam_export.progress import console, note, step

NOTHING = contextlib.nullcontext()
REPORT_IMAGES = 4
OBSERVED_IMAGES = 8  # that ranges of activations are found on, as in an export
# That layers are fitted on, see `layerwise`. A student half as wide as demo, 256, 8 others: 16 28.6
# dB, 40 29.0 in more than twice the time, in which training wins more.
FITTED_IMAGES = 16
# Options that a run must repeat to go on, beside what they name.
SAME = ("student", "image_size", "mask_steps", "batch", "views", "loss", "seed")
MOST_READERS = 4  # processes; on a CPU they would only take the encoders' cores


@dataclass(frozen=True)
class DistillResult:
    """What a run has come to.

    Attributes:
        options: of the run.
        log: of all calls.
        main: whether this process is the one to speak.
    """

    options: DistillOptions
    log: Log
    main: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": str(self.options.out),
            "steps": len(self.log.losses),
            "seconds": round(self.log.seconds, 1),
            "problems": self.log.problems,
            "before": self.log.epochs[0],
            "after": self.log.epochs[-1],
        }


def run(options: DistillOptions, damage: Damage | None = None) -> DistillResult:
    """Train, or go on where an earlier call with the same options was.

    Args:
        options: of the run.
        damage: the recipe that `options.student` names, where it is looked up already.

    Raises:
        MobileSamExportError: an option, an image folder or a checkpoint is wrong, or training
            cannot go on.
    """
    if options.report or options.plot:
        packages.require("matplotlib", extra="measure")
    with join_processes(options.device) as processes:
        with processes.main_first():
            damage = damage or parse_damage(options.student, options.image_size)
            parts = _open(options, processes, damage)
        with parts.folder.locked() if processes.main else contextlib.nullcontext():
            prepared = _prepare(options, processes, parts)
            prepared.train()
            if processes.main:
                prepared.write_result()
                _write_reports(options, prepared)
        return DistillResult(options, prepared.log, processes.main)


@dataclass(frozen=True)
class _Parts:
    """What a run is made of, checked; nothing but the list of images is written so far."""

    images: ImageSet
    teacher: Teacher
    start: Start
    plan: Plan
    folder: RunFolder
    cache: EmbeddingCache
    damage: Damage | None


def _open(options: DistillOptions, processes: Processes, damage: Damage | None) -> _Parts:
    """Open everything and refuse what does not fit together."""
    if options.batch % processes.count:
        raise UsageError(
            f"--batch {options.batch} cannot be divided over {processes.count} processes"
        )
    listing = options.folder / "images.json"
    images = open_images(options.images, options.image_size, options.held_out, listing)
    with step(f"Loading the checkpoint ({options.teacher})") if processes.main else NOTHING:
        teacher = load_teacher(options.teacher, options.image_size, processes.device)
        teacher = replace(teacher, exact=damage is not None)
    start = _start(options, teacher, damage)
    steps = options.embedding_steps(len(images.training))
    usual = RECOVERY_RATES[damage.recipe.weights] if damage else LEARNING_RATE
    rate = usual if options.learning_rate is None else options.learning_rate
    plan = Plan(steps, rate, options.loss, options.mask_steps)
    folder = RunFolder(options.folder, _identity(options, images, (teacher, start), plan, damage))
    if options.out.exists() and not folder.exists:
        raise UsageError(f"{options.out} is there, but no run to go on with; choose another --out")
    cache = _cache(options, processes, teacher, len(images.training))
    if processes.main:
        images.save(listing)
    return _Parts(images, teacher, start, plan, folder, cache, damage)


def _start(options: DistillOptions, teacher: Teacher, damage: Damage | None) -> Start:
    size = options.image_size
    if damage is None:
        return build_student(options.student, options.init or "seeded", teacher, size)
    return Start(build_recovered(options.init or options.teacher, teacher, size))


def _first_images(
    options: DistillOptions, parts: _Parts, device: torch.device, count: int
) -> Iterator[Tensor]:
    """(1, 3, S, S) normalised, of images that are trained on."""
    for image in parts.images.training[:count]:
        whole, _ = square(image, WHOLE, options.contract)
        yield normalized(whole[None].to(device))


def _recovery(
    options: DistillOptions, parts: _Parts, processes: Processes, *, begin: bool
) -> Recovery | None:
    """What simulates the recipe, with ranges from the encoder as it was given: the same each time.

    Args:
        options: of the run.
        parts: of the run; `begin` changes the weights of its student to those of a first file.
        processes: of the run.
        begin: whether nothing was trained yet.
    """
    if parts.damage is None:
        return None
    recovery = Recovery(parts.damage, parts.start.student, processes.device)
    encoder = parts.start.student.image_encoder.to(processes.device)
    begins = begin and recovery.rounds_first
    count = FITTED_IMAGES if begins else OBSERVED_IMAGES
    pixels = list(_first_images(options, parts, processes.device, count))
    recovery.observe(encoder, pixels[:OBSERVED_IMAGES])
    if begins:
        with step("Rounding layer after layer") if processes.main else NOTHING:
            recovery.begin(encoder.eval(), pixels)
    return recovery


def _prepare(options: DistillOptions, processes: Processes, parts: _Parts) -> Run:
    """Everything that the loop needs, from the beginning or from where an earlier call was."""
    images, teacher, plan = parts.images, parts.teacher, parts.plan
    student = parts.start.student
    saved = parts.folder.load(processes.device)
    if saved is None and parts.start.wide is not None:
        with step("Fitting a narrower encoder") if processes.main else NOTHING:
            shown = _first_images(options, parts, processes.device, FITTED_IMAGES)
            parts.start.fit(processes.device, shown)
    recovery = _recovery(options, parts, processes, begin=saved is None)
    trainer = Trainer(student.image_encoder, plan, processes, recovery)
    log = Log(problems=list(images.problems))
    if saved:
        trainer.restore(saved[0])
        log = saved[1]
    embedder, judge = Embedder(teacher, parts.cache), None
    if processes.main:
        for text in (*listed(images.problems), *teacher.notes):
            note(text)
        _announce(options, images, parts.cache, trainer.step, plan.total)
        held_out = open_held_out(images.held_out, embedder, options.contract, processes.device)
        exact = recovery is not None
        judge = Judge(held_out, student, options.contract, processes.device, exact=exact)
    order = Order(len(images.training), options.views, options.seed)
    batches = Steps(images, order, options.contract, options.batch, processes.rank, processes.count)
    about = {"distilled_by": "mobilesam-export", "teacher_sha256": teacher.sha256}
    if parts.damage:
        about[RECOVERED_FOR] = str(parts.damage)
    return Run(
        trainer,
        batches,
        embedder,
        judge,
        parts.folder,
        log,
        processes,
        _readers(processes),
        lambda encoder: write_checkpoint(options.out, encoder, teacher, about),
        _mask_loss(student, processes) if plan.mask_steps else None,
    )


def _mask_loss(student: Sam, processes: Processes) -> MaskLoss:
    """Through the decoder that teacher and student share, in a copy on the device."""
    decoder = copy.deepcopy(student).to(processes.device)
    return MaskLoss(decoder, decoder)


def _identity(
    options: DistillOptions,
    images: ImageSet,
    models: tuple[Teacher, Start],
    plan: Plan,
    damage: Damage | None,
) -> dict[str, object]:
    """What the losses depend on, by the option that the user can change."""
    teacher, start = models
    encoder = start.wide or start.student.image_encoder
    entries = {ENCODER + name: value for name, value in encoder.state_dict().items()}
    return {
        **({"recipe": damage.sha256} if damage else {}),
        "teacher": teacher.sha256,
        "init": weights_sha256(entries),
        "images": images.sha256,
        "steps": plan.steps,
        "learning_rate": plan.learning_rate,
        **{name: value for name, value in asdict(options).items() if name in SAME},
    }


def _cache(
    options: DistillOptions, processes: Processes, teacher: Teacher, images: int
) -> EmbeddingCache:
    """The cache, after a look at whether it fits on the disk."""
    limit = int(options.cache_gb * 1e9) if options.views else 0
    whole = teacher.exact and processes.device.type != "cpu"  # others are of bfloat16 there
    cache = EmbeddingCache(
        options.cache_folder,
        f"{teacher.sha256}{' in float32' * whole}",
        options.image_size,
        limit,
        processes.rank,
    )
    wanted = min(limit, images * options.views * embedding_bytes(options.image_size))
    check_space(options.cache_folder, wanted - len(cache) * embedding_bytes(options.image_size))
    return cache


def _announce(
    options: DistillOptions, images: ImageSet, cache: EmbeddingCache, done: int, total: int
) -> None:
    """What is about to happen, and what it takes."""
    count, one = len(images.training), embedding_bytes(options.image_size)
    console.print(
        f"{count} images, {len(images.held_out)} more held out; step {done} of {total}, "
        f"{options.batch} images each",
        soft_wrap=True,
    )
    size = count * options.views * one
    limit = options.cache_gb * 1e9
    if not options.views or not limit:
        text = "Embeddings are not cached: the teacher runs in every step"
    else:
        text = (
            f"Embeddings: {size / 1e9:.2f} GB in {options.cache_folder}, {len(cache)} of "
            f"{count * options.views} are there"
        )
        if size > limit:
            text += (
                f"; --cache-gb {options.cache_gb:g} holds {limit / size:.0%} of them, the others "
                "are computed again in every epoch"
            )
    console.print(text, soft_wrap=True)


def _readers(processes: Processes) -> int:
    if processes.device.type == "cpu":
        return 0
    return min(MOST_READERS, (os.cpu_count() or 1) // processes.count)


def _write_reports(options: DistillOptions, done: Run) -> None:
    from mobilesam_export.distillation.report import write_page, write_plot

    if options.plot:
        write_plot(options.plot, done.log)
    if options.report and done.judge:
        title = f"{options.student} learns from {options.teacher} at {options.image_size}"
        with done.trainer.result() as encoder:
            examples = done.judge.overlays(encoder, REPORT_IMAGES)
        write_page(options.report, title, done.log, examples)
