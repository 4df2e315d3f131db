"""A job, and what is found out about it before any work: names looked up, values checked."""

from dataclasses import dataclass, replace
from pathlib import Path

from mobilesam_export import calibration
from mobilesam_export.backends import Backend, Settings, get_backend
from mobilesam_export.bundle import readme, staging
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import frame_of
from mobilesam_export.errors import BackendError, UsageError
from mobilesam_export.target import Recipe, Target


@dataclass(frozen=True)
class Job:
    """What to export.

    Attributes:
        target: the kind of files.
        recipe: its name, or None for the target's default.
        checkpoint: see `checkpoint.SOURCES`.
        out: the bundle's folder, or None for build/<target>-<recipe>.
        image_size: side of the square input in pixels, a multiple of 64 from 256 up, or
            "WIDTHxHEIGHT" of a rectangle.
        margin: of a rectangle, see `Frame`; None for the default.
        points: prompt slots of the decoder, 2 or more.
        verify: whether to run the files and compare.
        calibration: a folder of images for static recipes, or None for generated scenes.
        fit: whether layers are raised in precision where the recipe does not hold.
        min_iou: mean mask IoU over all prompts that files must have, or None for what the recipe's
            tolerance asks.
        prompt_sets: Q of a further file, `decoder_batch`, 1 or more; None for no such file.
        recover: steps of training by which the encoder learns to bear the recipe, before anything
            is fitted; 0 for none.
        split_decoder: whether `prepare` and `decoder_prepared` are added.
        keep_failed: whether files that fail verification are written as well, of a fit the best.
    """

    target: Target
    recipe: str | None = None
    checkpoint: str = "official"
    out: Path | None = None
    image_size: int | str = 1024
    points: int = 6
    verify: bool = True
    calibration: Path | None = None
    fit: bool = True
    min_iou: float | None = None
    prompt_sets: int | None = None
    split_decoder: bool = False
    keep_failed: bool = False
    recover: int = 0
    margin: int | None = None


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
    contract = _contract(job)
    folder = job.out or Path("build") / f"{job.target.name}-{name}"
    staging.check_replaceable(folder)
    if job.calibration is not None:
        calibration.find_images(job.calibration)
    if job.min_iou is not None:
        recipe = _held_to(recipe, job.min_iou, runs=job.verify)
    with job.target.locating("recipe", name):
        settings = parsed_recipe(backend, job.target, recipe)
        _check_patterns(recipe, contract)
        if contract.further:
            parsed_recipe(backend, job.target, recipe_of_further(backend, recipe))
    readme.find_template(backend, job.target.graph)
    if job.recover:
        _check_recoverable(job, name, backend, contract)
    return Plan(name, recipe, contract, backend, settings, folder)


def _contract(job: Job) -> Contract:
    """What the files of a job take and give.

    Raises:
        UsageError: there can be no such files.
    """
    if job.prompt_sets is not None and job.prompt_sets < 1:
        raise UsageError(f"--prompt-sets is {job.prompt_sets}; expected 1 or more")
    size, sets = frame_of(job.image_size, job.margin), job.prompt_sets or 0
    frame = None if size.is_square else size
    return Contract(size.side, job.points, job.target.graph, sets, job.split_decoder, frame)


def recipe_of_further(backend: Backend, recipe: Recipe) -> Recipe:
    """The recipe of the files beside encoder and decoder: they are not compressed."""
    return recipe.uncompressed(*backend.uncompressed_types()) if recipe.compressed else recipe


def parsed_recipe(backend: Backend, target: Target, recipe: Recipe) -> Settings:
    """What the backend reads from a recipe of a target.

    Raises:
        TargetError: the backend does not take it.
    """
    return backend.parse_recipe(recipe, target.graph, target.options(recipe))


def _held_to(recipe: Recipe, min_iou: float, *, runs: bool) -> Recipe:
    """The recipe with the mean mask IoU that a job asks for; `runs`: whether it runs the files."""
    if not 0 < min_iou <= 1:
        raise UsageError(f"--min-iou is {min_iou}; expected a number over 0 up to 1")
    if not runs:
        raise UsageError("--min-iou is judged by running the files; leave --no-verify out")
    return replace(recipe, tolerance=replace(recipe.tolerance, mean_mask_iou=min_iou))


def _check_recoverable(job: Job, name: str, backend: Backend, contract: Contract) -> None:
    from mobilesam_export.distillation.recovery import damage_of

    if not job.verify:
        raise UsageError("--recover is judged by running the files; leave --no-verify out")
    if reason := backend.why_unavailable():
        raise BackendError(f"--recover is judged by running the files, but {reason}")
    if not contract.size.is_square:
        raise UsageError("--recover trains on squares; leave it out with a rectangle")
    damage_of(job.target, name, contract.image_size)


def _check_patterns(recipe: Recipe, contract: Contract) -> None:
    from mobilesam_export.graphs import names

    names.check_patterns(recipe, contract)
