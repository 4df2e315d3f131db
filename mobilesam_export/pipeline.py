"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import __version__, calibration
from mobilesam_export.backends import Backend, Conversion, Settings, get_backend
from mobilesam_export.bundle import readme, staging
from mobilesam_export.bundle.contents import Contents, file_metadata
from mobilesam_export.bundle.write import write_contents
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError
from mobilesam_export.progress import note, step
from mobilesam_export.proof.files import Files, verify_files
from mobilesam_export.target import Recipe, Target
from mobilesam_export.verification import cases, verify
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.model import Sam


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
        calibration: a folder of images for static recipes, or None for generated scenes.
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
    with job.target.locating("backend"):
        backend = get_backend(job.target.backend)
    if reason := backend.why_cannot_convert():
        raise BackendError(f"cannot export {job.target.name}: {reason}")
    contract = Contract(job.image_size, job.points, job.target.graph)
    folder = job.out or Path("build") / f"{job.target.name}-{name}"
    staging.check_replaceable(folder)
    if job.calibration is not None:
        calibration.find_images(job.calibration)
    with job.target.locating("recipe", name):
        convert = {**job.target.convert, **recipe.convert}
        settings = backend.parse_recipe(recipe, job.target.graph, convert)
        _check_patterns(recipe, contract)
    readme.find_template(backend, job.target.graph)
    return Plan(name, recipe, contract, backend, settings, folder)


def _check_patterns(recipe: Recipe, contract: Contract) -> None:
    from mobilesam_export.graphs import names

    names.check_patterns(recipe, contract)


def export(job: Job) -> Outcome:
    """Do the whole job.

    Returns:
        What was made. Files that fail verification are not put in the bundle's place.

    Raises:
        MobileSamExportError: of the stage that cannot go on; nothing is left behind then.
    """
    from mobilesam_export.backends import reference
    from mobilesam_export.checkpoint.load import load_checkpoint
    from mobilesam_export.graphs import ranges, split_graphs
    from mobilesam_export.model import build_sam

    plan = check(job)
    name, recipe, contract, backend = plan.recipe_name, plan.recipe, plan.contract, plan.backend
    folder = plan.folder
    with step(f"Loading the checkpoint ({job.checkpoint})"):
        checkpoint = load_checkpoint(job.checkpoint)
        sam = build_sam(checkpoint.state_dict, job.image_size)
    for text in checkpoint.notes:
        note(text)
    with ranges.observed(sam) as peaks:
        with step("Asking PyTorch for the expected answers"):
            expected = cases.reference_cases(reference.load(sam, contract))
        calibrated = collect_samples(job, plan, sam)
    exponents = ranges.choose_exponents(peaks)
    graphs = split_graphs(ranges.fold_ranges(sam, exponents), contract)
    with staging.staging(folder) as stage:
        for graph in graphs:
            with step(f"Converting the {graph.spec.name}"):
                path = stage / f"{graph.spec.name}{backend.suffix}"
                metadata = file_metadata(graph.spec, job.target, name, checkpoint)
                samples = calibrated.samples[graph.spec.name] if calibrated else ()
                conversion = Conversion(plan.settings, recipe, contract, metadata, samples)
                with job.target.locating("recipe", name):
                    backend.convert(graph, conversion, path)
        if reason := backend.why_unavailable() if job.verify else "--no-verify was given":
            report = verify.unverified(reason)
        else:
            files = Files(stage, backend, recipe, contract)
            report = verify_files(files, graphs, expected)
        contents = Contents(
            target=job.target,
            recipe_name=name,
            contract=contract,
            checkpoint=checkpoint,
            versions={"mobilesam-export": __version__, **backend.versions()},
            report=report,
            calibration=calibrated,
            exponents=exponents,
        )
        if report.status is not Status.FAILED:
            write_contents(stage, contents, expected)
            sizes = readme.artifact_sizes(stage)
            staging.publish(stage, folder)
            return Outcome(folder, sizes, report)
    return Outcome(None, {}, report)


def collect_samples(job: Job, plan: Plan, sam: "Sam") -> calibration.Calibration | None:
    """Samples of a static recipe and of the user's images; None where there are neither."""
    if not plan.recipe.calibrated and job.calibration is None:
        return None
    from mobilesam_export.backends import reference

    with step("Collecting calibration samples"):
        return calibration.collect(job.calibration, reference.load(sam, plan.contract))
