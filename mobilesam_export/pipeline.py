"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import __version__, calibration, packages
from mobilesam_export.backends import Backend, Conversion, Settings, get_backend
from mobilesam_export.bundle import readme, staging
from mobilesam_export.bundle.contents import Contents, file_metadata
from mobilesam_export.bundle.load import load_predictor
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.bundle.write import write_contents
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError, UsageError
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import note, step
from mobilesam_export.target import Recipe, Target
from mobilesam_export.verification import arm, cases, verify
from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.graphs import Graph
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


def verify_bundle(folder: Path, checkpoint: str | None = None) -> verify.Report:
    """Check the hashes of an existing bundle and hold its files to PyTorch again.

    Args:
        folder: the bundle.
        checkpoint: what it was made of, or None to take what its manifest names.

    Raises:
        BundleError: it is damaged or no bundle. UsageError: that is another checkpoint.
    """
    with step("Checking the bundle's hashes"):
        opened = open_bundle(folder)
    backend = get_backend(opened.backend)
    if reason := backend.why_unavailable() or packages.why_missing(*REFERENCE, extra="torch"):
        return verify.unverified(f"hashes are right, but {reason}")
    from mobilesam_export.graphs import ranges, split_graphs

    sam, expected = _expected_answers(opened, checkpoint)
    graphs = split_graphs(ranges.fold_ranges(sam, opened.exponents), opened.contract)
    files = Files(folder, backend, opened.recipe, opened.contract)
    return verify_files(files, graphs, expected)


def verify_on_arm(folder: Path, checkpoint: str | None = None) -> dict[str, verify.Report]:
    """Hold the files to PyTorch as the ARM builds of their runtime compute them.

    Args:
        folder: the bundle.
        checkpoint: as of `verify_bundle`.

    Returns:
        By the emulated processor model, a key of `arm.MODELS`.

    Raises:
        UsageError: there is no emulator, or no ARM build of that runtime.
        BackendError: the emulated process ended, or its runtime refuses the files.
    """
    opened = open_bundle(folder)
    if reason := arm.why_unavailable(get_backend(opened.backend)):
        raise UsageError(f"--arm: {reason}")
    packages.require(*REFERENCE, extra="torch")
    _, expected = _expected_answers(opened, checkpoint)
    # Emulation is slow: one prompt without a mask and one with it.
    few = tuple(replace(case, prompts=case.prompts[:: len(case.prompts) - 1]) for case in expected)
    return {model: _verify_emulated(opened, model, few) for model in arm.MODELS}


def _verify_emulated(
    opened: Bundle, model: str, expected: tuple[cases.ImageCase, ...]
) -> verify.Report:
    text = f"Verifying the files on an emulated {model}"
    with step(text), arm.sessions(opened.folder, model) as sessions:
        predictor = Predictor(*sessions, opened.contract)
        return verify.verify(predictor, expected, opened.recipe.tolerance)


def _expected_answers(
    opened: Bundle, checkpoint: str | None
) -> "tuple[Sam, tuple[cases.ImageCase, ...]]":
    from mobilesam_export.backends import reference
    from mobilesam_export.checkpoint.load import load_matching_checkpoint
    from mobilesam_export.model import build_sam

    with step("Asking PyTorch for the expected answers"):
        weights = load_matching_checkpoint(opened.provenance, checkpoint)
        sam = build_sam(weights.state_dict, opened.contract.image_size)
        return sam, cases.reference_cases(reference.load(sam, opened.contract))


@dataclass(frozen=True)
class Files:
    """An encoder and a decoder file, not opened yet."""

    folder: Path
    backend: Backend
    recipe: Recipe
    contract: Contract

    def path(self, graph: str) -> Path:
        """Of the encoder or the decoder."""
        return self.folder / f"{graph}{self.backend.suffix}"


def verify_files(
    files: Files, graphs: "tuple[Graph, Graph]", expected: tuple[cases.ImageCase, ...]
) -> verify.Report:
    """Run both files, and where chips compute them in float16 also in its pessimistic form.

    Args:
        files: the files.
        graphs: their export form.
        expected: PyTorch's answers.
    """
    recipe, float16 = files.recipe, None
    if files.backend.computes_float16(recipe, files.contract.form) and not files.contract.dynamic:
        float16 = _pessimistic(files, graphs, expected)
    with step("Verifying the files against PyTorch"):
        predictor = load_predictor(files.folder, files.backend, files.contract)
        return verify.verify(predictor, expected, recipe.tolerance, float16)


def _pessimistic(
    files: Files, graphs: "tuple[Graph, Graph]", expected: tuple[cases.ImageCase, ...]
) -> Float16:
    from mobilesam_export.verification import pessimistic
    from mobilesam_export.verification.half import PessimisticFloat16

    with step("Computing them in pessimistic float16"):
        halves = PessimisticFloat16(), PessimisticFloat16()
        islands = files.backend.float32_islands(files.recipe)
        encoder, decoder = (
            files.backend.stepwise(files.path(graph.spec.name), half.at)
            or pessimistic.open_graph(graph, half, islands)
            for graph, half in zip(graphs, halves, strict=True)
        )
        return pessimistic.measure((encoder, decoder), halves, files.contract, expected)


def compare_with_interpreter(folder: Path) -> verify.Report:
    """Hold the runtime's answers to those of a second program that reads the same files.

    Returns:
        A report with that program in the place of PyTorch; unverified where it is all that can
        run the files here, so that there is nothing to compare it with.

    Raises:
        UsageError: there is no second program for files of this backend.
        MobileSamExportError: the bundle is damaged, or its files cannot be run.
    """
    opened = open_bundle(folder)
    backend = get_backend(opened.backend)
    paths = [folder / f"{name}{backend.suffix}" for name in ("encoder", "decoder")]
    encoder, decoder = (backend.second_opinion(path) for path in paths)
    if encoder is None or decoder is None:
        raise UsageError(
            f"--interpreter: there is no interpreter for the files of {folder}, a bundle of the "
            f"target {opened.target}"
        )
    with step("Loading the bundle"):
        predictor = opened.predictor()
    if predictor.encoder.runtime == encoder.runtime:
        return verify.unverified(
            f"the {encoder.runtime}, is all that runs these files here; {encoder.note}"
        )
    with step("Asking the interpreter for the expected answers"):
        expected = cases.reference_cases(Predictor(encoder, decoder, opened.contract))
    with step("Comparing with the interpreter"):
        return verify.verify(predictor, expected, opened.recipe.tolerance)
