"""`--recover`: the encoder is trained to bear the recipe, and exported again if that helped."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam_export.distillation.recovery import damage_of
from mobilesam_export.distillation.run import FITTED_IMAGES, run
from mobilesam_export.graphs import ranges, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.pipeline.jobs import Job, Plan
from mobilesam_export.pipeline.maker import Maker
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:
    from mobilesam_export.checkpoint.load import Checkpoint

BATCH = 2  # what the learning rate was chosen with
MOST_SCENES = 400


@dataclass(frozen=True)
class Recovery:
    """What training for a recipe's files has come to.

    Attributes:
        checkpoint: of the recovered encoder.
        steps: of training.
        images: that it was trained on.
        mask_iou: mean of the files without it and with it, over the prompts of verification.
        report: of the files that there are now.
        used: whether they are those of the recovered encoder.
    """

    checkpoint: "Checkpoint"
    steps: int
    images: str
    mask_iou: tuple[float, float]
    report: Report
    used: bool

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and JSON."""
        before, after = (round(value, 5) for value in self.mask_iou)
        return {
            "steps": self.steps,
            "images": self.images,
            "weights_sha256": self.checkpoint.provenance.weights_sha256,
            "mask_iou_mean": {"before": before, "after": after},
            "used": self.used,
        }

    def summary(self) -> str:
        """For people."""
        before, after = self.mask_iou
        gain = f"mean mask IoU of the files {before:.4f} -> {after:.4f}"
        kept = "" if self.used else "; the files are those without it"
        return f"recovered in {self.steps} steps on {self.images}: {gain}{kept}"


def trained(job: Job, plan: Plan) -> tuple["Checkpoint", str]:
    """Train the encoder, or take what an earlier call of the same job has come to.

    State and checkpoint lie beside the bundle's folder, with `.recovery` behind its name.

    Returns:
        The checkpoint, and what it was trained on.
    """
    from mobilesam_export.checkpoint.load import load_checkpoint
    from mobilesam_export.distillation.options import DistillOptions

    damage = damage_of(job.target, plan.recipe_name, plan.contract.image_size)
    scenes = f"scenes:{min(MOST_SCENES, max(FITTED_IMAGES, BATCH * job.recover))}"
    images = scenes if job.calibration is None else str(job.calibration)
    out = recovery_folder(plan.folder) / "encoder.safetensors"
    options = DistillOptions(
        images,
        out,
        teacher=job.checkpoint,
        student=str(damage),
        image_size=plan.contract.image_size,
        steps=job.recover,
        batch=BATCH,
    )
    run(options, damage)
    return load_checkpoint(str(out)), "generated scenes" if images == scenes else images


def recovery_folder(bundle: Path) -> Path:
    """Where a bundle's recovery is kept."""
    return bundle.with_name(f"{bundle.name}.recovery")


def recovered(maker: Maker, exponents: ranges.Exponents, report: Report) -> Recovery:
    """Train, and make the encoder's file again; where that is no better, what was there.

    That comes back, too, where the new files miss the tolerance and may be fitted: weights on a
    grid gain nothing from more bits, and those that were given do.

    Args:
        maker: of the job's files.
        exponents: of range folding; training moves no range by a power of two.
        report: of the files as they are.
    """
    job, plan = maker.job, maker.plan
    checkpoint, images = trained(job, plan)
    sam = build_sam(checkpoint.state_dict, plan.contract.size)
    folded = ranges.fold_ranges(sam, exponents, on_grid=True)
    plain = maker.graphs[0]
    made = maker.with_encoder(split_graphs(folded, plan.contract)[0], plan.recipe)
    before, after = _mean(report), _mean(made)
    fitted = job.fit and made.status is Status.FAILED
    used = after > before and not fitted
    if not used:
        made = maker.with_encoder(plain, plan.recipe)
    return Recovery(checkpoint, job.recover, images, (before, after), made, used)


def _mean(report: Report) -> float:
    return float(np.mean([prompt.mask_iou for prompt in report.prompts]))
