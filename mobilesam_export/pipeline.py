"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import __version__, calibration, packages
from mobilesam_export.backends import Backend, Conversion, Settings, get_backend
from mobilesam_export.bundle import manifest, readme, staging
from mobilesam_export.bundle.sessions import load_files
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError, TargetError, UsageError
from mobilesam_export.progress import step
from mobilesam_export.target import Recipe, Target
from mobilesam_export.verification import cases, verify

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.checkpoint.load import Checkpoint
    from mobilesam_export.model import Sam

# What PyTorch's answers are computed with.
REFERENCE = ("torch", "safetensors", "scipy", "platformdirs")


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
    """A job with every name looked up and every value checked."""

    recipe_name: str
    recipe: Recipe
    contract: Contract
    backend: Backend
    settings: Settings
    folder: Path


def check(job: Job) -> Plan:
    """Find what is wrong with a job before any work is done.

    Raises:
        MobileSamExportError: there is no such recipe or backend, a converter is not installed, a
            word or number of the target is wrong, or the folder may not be replaced.
    """
    name, recipe = job.target.recipe(job.recipe)
    backend = get_backend(job.target.backend)
    if reason := backend.why_cannot_convert():
        raise BackendError(f"cannot export {job.target.name}: {reason}")
    contract = Contract(job.image_size, job.points, job.target.graph)
    folder = job.out or Path("build") / f"{job.target.name}-{name}"
    staging.check_replaceable(folder)
    if recipe.calibrated and job.calibration is not None:
        calibration.find_pictures(job.calibration)
    settings = _settings(job.target, name, backend)
    readme.find_template(backend, job.target.graph)
    return Plan(name, recipe, contract, backend, settings, folder)


def _settings(target: Target, recipe_name: str, backend: Backend) -> Settings:
    """What the backend reads from a target and one of its recipes."""
    _, recipe = target.recipe(recipe_name)
    try:
        return backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})
    except TargetError as exc:
        raise TargetError(f"target {target.name}, recipe {recipe_name}: {exc}") from exc


def export(job: Job) -> Outcome:
    """Do the whole job.

    Returns:
        What was made. Files that fail verification are not put in the bundle's place.

    Raises:
        MobileSamExportError: of the stage that cannot go on; nothing is left behind then.
    """
    from mobilesam_export.backends import reference
    from mobilesam_export.checkpoint.load import load_checkpoint
    from mobilesam_export.graphs import split_graphs
    from mobilesam_export.model import build_sam

    plan = check(job)
    name, recipe, contract, backend = plan.recipe_name, plan.recipe, plan.contract, plan.backend
    folder = plan.folder
    with step(f"Loading the checkpoint ({job.checkpoint})"):
        checkpoint = load_checkpoint(job.checkpoint)
        sam = build_sam(checkpoint.state_dict, job.image_size)
    calibrated = collect_samples(job, plan, sam)
    with staging.staging(folder) as stage:
        for graph in split_graphs(sam, contract):
            with step(f"Converting the {graph.spec.name}"):
                path = stage / f"{graph.spec.name}{backend.suffix}"
                metadata = manifest.file_metadata(graph.spec, job.target, name, checkpoint)
                samples = calibrated.samples[graph.spec.name] if calibrated else ()
                conversion = Conversion(plan.settings, recipe, contract, metadata, samples)
                backend.convert(graph, conversion, path)
        with step("Asking PyTorch for the expected answers"):
            expected = cases.reference_cases(reference.load(sam, contract), contract)
        if reason := backend.why_unavailable() if job.verify else "--no-verify was given":
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


def collect_samples(job: Job, plan: Plan, sam: "Sam") -> calibration.Calibration | None:
    """What a static recipe is calibrated on; None for a recipe that needs nothing."""
    if not plan.recipe.calibrated:
        return None
    from mobilesam_export.backends import reference

    with step("Collecting calibration samples"):
        sessions = reference.load(sam, plan.contract)
        return calibration.collect(job.calibration, sessions, plan.contract)


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
    if reason := backend.why_unavailable() or packages.why_missing(*REFERENCE, extra="torch"):
        return verify.unverified(f"hashes are right, but {reason}")
    with step("Asking PyTorch for the expected answers"):
        expected = _reference_cases(opened, checkpoint)
    with step("Verifying the files against PyTorch"):
        sessions = load_files(folder, backend, opened.contract)
        return verify.verify(sessions, expected, opened.contract, opened.tolerance)


def _reference_cases(
    opened: manifest.Bundle, checkpoint: str | None
) -> tuple[cases.PictureCase, ...]:
    from mobilesam_export.backends import reference
    from mobilesam_export.model import build_sam

    weights = reference_checkpoint(opened, checkpoint)
    sam = build_sam(weights.state_dict, opened.contract.image_size)
    return cases.reference_cases(reference.load(sam, opened.contract), opened.contract)


def compare_with_interpreter(folder: Path) -> verify.Report:
    """Hold the runtime's answers to those of a second program that reads the same files.

    Returns:
        A report with that program in the place of PyTorch; unverified where it is all that can
        run the files here, so that there is nothing to compare it with.

    Raises:
        UsageError: there is no second program for files of this backend.
        MobileSamExportError: the bundle is damaged, or its files cannot be run.
    """
    opened = manifest.open_bundle(folder)
    backend, specs = get_backend(opened.backend), (opened.contract.encoder, opened.contract.decoder)
    paths = [folder / f"{spec.name}{backend.suffix}" for spec in specs]
    seconds = [found for path in paths if (found := backend.second_opinion(path)) is not None]
    if len(seconds) < len(paths):
        raise UsageError(
            f"--interpreter: there is no interpreter for the files of {folder}, a bundle of the "
            f"target {opened.target}"
        )
    with step("Loading the bundle"):
        sessions = load_files(folder, backend, opened.contract)
    if sessions[0].runtime == seconds[0].runtime:
        return verify.unverified(
            f"the {seconds[0].runtime}, is all that runs these files here; {seconds[0].note}"
        )
    with step("Asking the interpreter for the expected answers"):
        expected = cases.reference_cases(seconds, opened.contract)
    with step("Comparing with the interpreter"):
        return verify.verify(sessions, expected, opened.contract, opened.tolerance)


def reference_checkpoint(opened: manifest.Bundle, source: str | None) -> "Checkpoint":
    """The checkpoint that a bundle was made of, to verify it again.

    Args:
        opened: the bundle.
        source: where to find it, or None to take what the manifest names.

    Raises:
        UsageError: it came from a file and `source` is None, or `source` holds other weights.
    """
    from mobilesam_export.checkpoint.load import load_checkpoint

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
