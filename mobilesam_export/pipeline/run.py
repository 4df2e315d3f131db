"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import __version__, calibration
from mobilesam_export.backends.threads import torch_threads
from mobilesam_export.bundle import readme, staging
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.write import write_contents
from mobilesam_export.pipeline.jobs import Job, Plan, check
from mobilesam_export.pipeline.maker import Maker
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import note, step
from mobilesam_export.proof.square import beside_square
from mobilesam_export.target import Recipe, Target
from mobilesam_export.target.fitted import fitted_toml
from mobilesam_export.verification import cases
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.checkpoint.load import Checkpoint
    from mobilesam_export.fitting import Fit
    from mobilesam_export.graphs.ranges import Exponents
    from mobilesam_export.model import Sam
    from mobilesam_export.pipeline.recovery import Recovery


@dataclass(frozen=True)
class Outcome:
    """What an export has made.

    Attributes:
        folder: the bundle, or None if verification failed and nothing was written.
        sizes: bytes of each graph by file name.
        report: of the verification.
        fit: how the recipe was fitted to the weights; None if it held, or could not be fitted.
        recovery: what training for the recipe has come to; None if the job has none.
    """

    folder: Path | None
    sizes: dict[str, int]
    report: Report
    fit: "Fit | None" = None
    recovery: "Recovery | None" = None


def export(job: Job) -> Outcome:
    """Do the whole job.

    Returns:
        What was made. Files that fail verification are not put in the bundle's place unless the
        job keeps them.

    Raises:
        MobileSamExportError: of the stage that cannot go on; nothing is left behind then.
    """
    from mobilesam_export.backends import reference
    from mobilesam_export.checkpoint.load import load_checkpoint
    from mobilesam_export.graphs import further_graphs, ranges, split_graphs
    from mobilesam_export.model import build_sam

    plan = check(job)
    contract = plan.contract
    with step(f"Loading the checkpoint ({job.checkpoint})"):
        checkpoint = load_checkpoint(job.checkpoint)
        sam = build_sam(checkpoint.state_dict, contract.size)
    label = f"{job.target.name}:{plan.recipe_name}"
    for text in (*checkpoint.notes, *other_weights(plan.recipe, label, checkpoint)):
        note(text)
    asked = reference.load(sam, contract)
    with ranges.observed(sam) as peaks, torch_threads(1):  # as conversions are
        with step("Asking PyTorch for the expected answers"):
            expected = cases.reference_cases(asked)
        calibrated = collect_samples(job, plan, sam)
    exponents = ranges.choose_exponents(peaks)
    on_grid = bool(checkpoint.provenance.recovered_for)
    folded = ranges.fold_ranges(sam, exponents, on_grid=on_grid)
    graphs, further = split_graphs(folded, contract), further_graphs(folded, contract)
    with staging.staging(plan.folder) as stage:
        maker = Maker(job, plan, checkpoint, graphs, further, expected, calibrated, stage)
        report, recipe, fit = maker.report(plan.recipe), plan.recipe, None
        recovery = _recovered(maker, exponents, report) if job.recover else None
        if recovery is not None:
            report = recovery.report
        if report.status is Status.FAILED and job.fit and _can_be_fitted(plan):
            fit = _fitted(maker, report, asked)
            report, recipe = fit.last.report, fit.recipe
        if report.status is Status.FAILED:
            report = maker.explained(recipe)
        report = beside_square(report, sam, contract)
        contents = Contents(
            target=replace(job.target, recipes={**job.target.recipes, plan.recipe_name: recipe}),
            recipe_name=plan.recipe_name,
            contract=contract,
            checkpoint=checkpoint,
            versions={"mobilesam-export": __version__, **plan.backend.versions()},
            report=report,
            steps={name: found for name, found in maker.steps.items() if found},
            logits_spread=cases.logits_spread(expected),
            calibration=calibrated,
            exponents=exponents,
            fit=None if fit is None else fit.as_dict(),
            recovery=None if recovery is None else recovery.as_dict(),
        )
        if report.status is not Status.FAILED or job.keep_failed:
            if fit is not None:
                _write_toml(stage, job.target, plan, fit, checkpoint)
            write_contents(stage, contents, expected)
            sizes = readme.artifact_sizes(stage)
            staging.publish(stage, plan.folder)
            return Outcome(plan.folder, sizes, report, fit, recovery)
    return Outcome(None, {}, report, fit, recovery)


def _recovered(maker: Maker, exponents: "Exponents", report: Report) -> "Recovery":
    """Files of a trained encoder, unless those that are there do better."""
    from mobilesam_export.pipeline.recovery import recovered

    return recovered(maker, exponents, report)


def _fitted(maker: Maker, report: Report, reference: Predictor) -> "Fit":
    """Files of the recipe with some layers raised."""
    from mobilesam_export.pipeline.fit import fitted

    return fitted(maker, report, reference)


def _write_toml(
    stage: Path, target: Target, plan: Plan, fit: "Fit", checkpoint: "Checkpoint"
) -> None:
    """The fitted recipe, as a target's file of the target's name: exports by it are the same."""
    weights = checkpoint.provenance.weights_sha256
    text = fitted_toml(target, plan.recipe_name, fit.recipe, weights)
    (stage / f"{target.name}.toml").write_text(text, encoding="utf-8")


def _can_be_fitted(plan: Plan) -> bool:
    """Whether the recipe compresses weights, and the graphs are such as PyTorch can be asked of."""
    return plan.recipe.compressed and not plan.contract.dynamic


def other_weights(recipe: Recipe, label: str, checkpoint: "Checkpoint") -> tuple[str, ...]:
    """Notes on weights or a recipe that were made for others; `label`: TARGET:RECIPE."""
    provenance = checkpoint.provenance
    weights = provenance.weights_sha256
    if provenance.recovered_for not in ("", label):
        return (
            f"these weights were recovered for {provenance.recovered_for}; {label} may do better "
            "with those that they came from",
        )
    if recipe.fitted_to in ("", weights):
        return ()
    return (
        f"this recipe was fitted to other weights (SHA-256 {recipe.fitted_to[:12]}..., these have "
        f"{weights[:12]}...); the recipe it was made from may be smaller and do as well",
    )


def collect_samples(job: Job, plan: Plan, sam: "Sam") -> calibration.Calibration | None:
    """Samples of a static recipe and of the user's images; None where there are neither."""
    if not plan.recipe.calibrated and job.calibration is None:
        return None
    from mobilesam_export.backends import reference

    with step("Collecting calibration samples"):
        return calibration.collect(job.calibration, reference.load(sam, plan.contract))
