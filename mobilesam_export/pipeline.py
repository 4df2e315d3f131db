"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilesam_export import __version__, calibration
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.bundle import manifest, readme, staging
from mobilesam_export.checkpoint.load import Checkpoint, load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.errors import UsageError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.progress import note, step
from mobilesam_export.session import Session
from mobilesam_export.target import Recipe, Target
from mobilesam_export.verification import cases, verify


@dataclass(frozen=True)
class Job:
    """What to export.

    Attributes:
        target: the kind of files.
        recipe: its name, or None for the target's default.
        checkpoint: see `checkpoint.SOURCES`.
        out: the bundle's folder, or None for build/<target>-<recipe>.
        image_size: side of the square input in pixels, a multiple of 64 from 256 up.
        points: prompt slots of the decoder, 2 or more.
        verify: whether to run the files and compare.
        calibration: a folder of pictures for static recipes, or None for generated scenes.
    """

    target: Target
    recipe: str | None = None
    checkpoint: str = "official"
    out: Path | None = None
    image_size: int = 1024
    points: int = 6
    verify: bool = True
    calibration: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What an export has made.

    Attributes:
        folder: the bundle, or None if verification failed and so nothing was written.
        sizes: bytes of encoder and decoder by file name.
        report: of the verification.
    """

    folder: Path | None
    sizes: dict[str, int]
    report: verify.Report


@dataclass(frozen=True)
class Plan:
    """A job with every name looked up and every number checked."""

    recipe_name: str
    recipe: Recipe
    contract: Contract
    backend: ModuleType
    options: Any
    folder: Path


def check(job: Job) -> Plan:
    """Find what is wrong with a job before any work is done.

    Raises:
        MobileSamExportError: there is no such recipe or backend, a number is out of range, or
            the folder may not be replaced.
    """
    name, recipe = job.target.recipe(job.recipe)
    backend = get_backend(job.target.backend)
    folder = job.out or Path("build") / f"{job.target.name}-{name}"
    staging.check_replaceable(folder)
    if recipe.calibrated and job.calibration is not None:
        calibration.find_pictures(job.calibration)
    return Plan(
        recipe_name=name,
        recipe=recipe,
        contract=Contract(job.image_size, job.points, job.target.graph),
        backend=backend,
        options=backend.parse_options({**job.target.convert, **recipe.convert}),
        folder=folder,
    )


def export(job: Job) -> Outcome:
    """Do the whole job.

    Returns:
        What was made. Files that fail verification are not put in the bundle's place.

    Raises:
        MobileSamExportError: of the stage that cannot go on; nothing is left behind then.
    """
    plan = check(job)
    name, recipe, contract, backend = plan.recipe_name, plan.recipe, plan.contract, plan.backend
    folder = plan.folder
    with step(f"Loading the checkpoint ({job.checkpoint})"):
        checkpoint = load_checkpoint(job.checkpoint)
        sam = build_sam(checkpoint.state_dict, job.image_size)
    for text in checkpoint.notes:
        note(text)
    calibrated = collect_samples(job, plan, sam)
    with staging.staging(folder) as stage:
        for graph in split_graphs(sam, contract):
            with step(f"Converting the {graph.spec.name}"):
                path = stage / f"{graph.spec.name}{backend.SUFFIX}"
                metadata = manifest.file_metadata(graph.spec, job.target, name, checkpoint)
                samples = calibrated.samples[graph.spec.name] if calibrated else ()
                conversion = Conversion(plan.options, recipe, contract, metadata, samples)
                backend.convert(graph, conversion, path)
        with step("Asking PyTorch for the expected answers"):
            expected = cases.reference_cases(reference.load(sam, contract), contract)
        if reason := backend.unavailable() if job.verify else "--no-verify was given":
            report = verify.unverified(reason)
        else:
            with step("Verifying the files against PyTorch"):
                sessions = load_files(stage, backend, contract)
                report = verify.verify(sessions, expected, contract, recipe.tolerance)
        contents = manifest.Contents(
            target=job.target,
            recipe_name=name,
            contract=contract,
            checkpoint=checkpoint,
            versions={"mobilesam-export": __version__, **backend.versions()},
            report=report,
            calibration=calibrated,
        )
        if report.status is not verify.Status.FAILED:
            manifest.write_contents(stage, contents, expected)
            sizes = readme.artifact_sizes(stage)
            staging.publish(stage, folder)
            return Outcome(folder, sizes, report)
    return Outcome(None, {}, report)


def collect_samples(job: Job, plan: Plan, sam: Sam) -> calibration.Calibration | None:
    """What a static recipe is calibrated on; None for a recipe that needs nothing."""
    if not plan.recipe.calibrated:
        return None
    with step("Collecting calibration samples"):
        sessions = reference.load(sam, plan.contract)
        return calibration.collect(job.calibration, sessions, plan.contract)


def load_files(folder: Path, backend: ModuleType, contract: Contract) -> list[Session]:
    """Encoder and decoder of a bundle's folder, ready to run."""
    return [
        backend.load(folder / f"{spec.name}{backend.SUFFIX}", spec)
        for spec in (contract.encoder, contract.decoder)
    ]


def verify_bundle(folder: Path, checkpoint: str | None = None) -> verify.Report:
    """Check the hashes of an existing bundle and hold its files to PyTorch again.

    Args:
        folder: the bundle.
        checkpoint: what it was made of, or None to take what its manifest names.

    Raises:
        BundleError: it is damaged or no bundle. UsageError: that is another checkpoint.
    """
    with step("Checking the bundle's hashes"):
        opened = manifest.open_bundle(folder)
    backend = get_backend(opened.backend)
    if reason := backend.unavailable():
        return verify.unverified(f"hashes are right, but {reason}")
    with step("Asking PyTorch for the expected answers"):
        weights = reference_checkpoint(opened, checkpoint)
        sam = build_sam(weights.state_dict, opened.contract.image_size)
        expected = cases.reference_cases(reference.load(sam, opened.contract), opened.contract)
    with step("Verifying the files against PyTorch"):
        sessions = load_files(folder, backend, opened.contract)
        return verify.verify(sessions, expected, opened.contract, opened.tolerance)


def reference_checkpoint(opened: manifest.Bundle, source: str | None) -> Checkpoint:
    """The checkpoint that a bundle was made of, to verify it again.

    Args:
        opened: the bundle.
        source: where to find it, or None to take what the manifest names.

    Raises:
        UsageError: it came from a file and `source` is None, or `source` holds other weights.
    """
    made_of = opened.provenance
    if source is None:
        source = made_of.source
        if made_of.file_sha256 and source != "official":  # a manifest has names, never paths
            raise UsageError(f"this bundle was made of the file {source}; give its path with -c")
    checkpoint = load_checkpoint(source)
    if checkpoint.provenance.weights_sha256 != made_of.weights_sha256:
        raise UsageError(
            f"this bundle was made of other weights ({made_of.source}) than {source} holds"
        )
    return checkpoint
