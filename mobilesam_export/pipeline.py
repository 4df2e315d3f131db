"""checkpoint -> model -> graphs -> backend -> verify -> bundle: the main job, in one place."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import __version__, calibration
from mobilesam_export.backends import Backend, Conversion, Settings, get_backend
from mobilesam_export.bundle import readme, staging
from mobilesam_export.bundle.contents import Contents, file_metadata
from mobilesam_export.bundle.write import write_contents
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError, TargetError, UsageError
from mobilesam_export.files import remove
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import note, step
from mobilesam_export.proof.files import Files, verify_files
from mobilesam_export.target import Recipe, Target
from mobilesam_export.target.fitted import fitted_toml
from mobilesam_export.verification import cases, verify
from mobilesam_export.verification.status import Status

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.checkpoint.load import Checkpoint
    from mobilesam_export.fitting import Fit
    from mobilesam_export.graphs import Graph
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
        fit: whether layers are raised in precision where the recipe does not hold.
        min_iou: mean mask IoU over all prompts that files must have, or None for what the recipe's
            tolerance asks.
        prompt_sets: Q of a further file, `decoder_batch`, 1 or more; None for no such file.
    """

    target: Target
    recipe: str | None = None
    checkpoint: str = "official"
    out: Path | None = None
    image_size: int = 1024
    points: int = 6
    verify: bool = True
    calibration: Path | None = None
    fit: bool = True
    min_iou: float | None = None
    prompt_sets: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What an export has made.

    Attributes:
        folder: the bundle, or None if verification failed and so nothing was written.
        sizes: bytes of each graph by file name.
        report: of the verification.
        fit: how the recipe was fitted to the weights; None if it held, or could not be fitted.
    """

    folder: Path | None
    sizes: dict[str, int]
    report: verify.Report
    fit: "Fit | None" = None


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
        settings = _parsed(backend, job.target, recipe)
        _check_patterns(recipe, contract)
        if contract.sets:
            _parsed(backend, job.target, _of_batch(backend, recipe))
    readme.find_template(backend, job.target.graph)
    return Plan(name, recipe, contract, backend, settings, folder)


def _contract(job: Job) -> Contract:
    """What the files of a job take and give.

    Raises:
        UsageError: there can be no such files.
    """
    if job.prompt_sets is not None and job.prompt_sets < 1:
        raise UsageError(f"--prompt-sets is {job.prompt_sets}; expected 1 or more")
    return Contract(job.image_size, job.points, job.target.graph, job.prompt_sets or 0)


def _of_batch(backend: Backend, recipe: Recipe) -> Recipe:
    """The recipe of `decoder_batch`: it is not compressed."""
    return recipe.uncompressed(*backend.uncompressed_types()) if recipe.compressed else recipe


def _parsed(backend: Backend, target: Target, recipe: Recipe) -> Settings:
    """What the backend reads from a recipe of a target.

    Raises:
        TargetError: the backend does not take it.
    """
    return backend.parse_recipe(recipe, target.graph, {**target.convert, **recipe.convert})


def _held_to(recipe: Recipe, min_iou: float, *, runs: bool) -> Recipe:
    """The recipe with the mean mask IoU that a job asks for; `runs`: whether it runs the files."""
    if not 0 < min_iou <= 1:
        raise UsageError(f"--min-iou is {min_iou}; expected a number over 0 up to 1")
    if not runs:
        raise UsageError("--min-iou is judged by running the files; leave --no-verify out")
    return replace(recipe, tolerance=replace(recipe.tolerance, mean_mask_iou=min_iou))


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
    from mobilesam_export.graphs import batch_graph, ranges, split_graphs
    from mobilesam_export.model import build_sam

    plan = check(job)
    contract = plan.contract
    with step(f"Loading the checkpoint ({job.checkpoint})"):
        checkpoint = load_checkpoint(job.checkpoint)
        sam = build_sam(checkpoint.state_dict, job.image_size)
    for text in (*checkpoint.notes, *_other_weights(plan.recipe, checkpoint)):
        note(text)
    asked = reference.load(sam, contract)
    with ranges.observed(sam) as peaks:
        with step("Asking PyTorch for the expected answers"):
            expected = cases.reference_cases(asked)
        calibrated = collect_samples(job, plan, sam)
    exponents = ranges.choose_exponents(peaks)
    folded = ranges.fold_ranges(sam, exponents)
    graphs, batch = split_graphs(folded, contract), batch_graph(folded, contract)
    with staging.staging(plan.folder) as stage:
        maker = _Maker(job, plan, checkpoint, graphs, batch, expected, calibrated, stage)
        report, recipe, fit = maker.report(plan.recipe), plan.recipe, None
        if report.status is Status.FAILED and job.fit and _can_be_fitted(plan):
            fit = maker.fit(report, asked)
            report, recipe = fit.last.report, fit.recipe
        contents = Contents(
            target=replace(job.target, recipes={**job.target.recipes, plan.recipe_name: recipe}),
            recipe_name=plan.recipe_name,
            contract=contract,
            checkpoint=checkpoint,
            versions={"mobilesam-export": __version__, **plan.backend.versions()},
            report=report,
            calibration=calibrated,
            exponents=exponents,
            fit=None if fit is None else fit.as_dict(),
        )
        if report.status is not Status.FAILED:
            if fit is not None:
                _write_toml(stage, job.target, plan, fit, checkpoint)
            write_contents(stage, contents, expected)
            sizes = readme.artifact_sizes(stage)
            staging.publish(stage, plan.folder)
            return Outcome(plan.folder, sizes, report, fit)
    return Outcome(None, {}, report, fit)


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


def _other_weights(recipe: Recipe, checkpoint: "Checkpoint") -> tuple[str, ...]:
    weights = checkpoint.provenance.weights_sha256
    if recipe.fitted_to in ("", weights):
        return ()
    return (
        f"this recipe was fitted to other weights (SHA-256 {recipe.fitted_to[:12]}..., these have "
        f"{weights[:12]}...); the recipe it was made from may be smaller and do as well",
    )


@dataclass
class _Maker:
    """Converts by one recipe after the other, which differ in their exceptions."""

    job: Job
    plan: Plan
    checkpoint: "Checkpoint"
    graphs: "tuple[Graph, Graph]"
    batch: "Graph | None"
    expected: tuple[cases.ImageCase, ...]
    calibrated: calibration.Calibration | None
    stage: Path
    kept: dict[str, object] = field(default_factory=dict)
    converted: dict[str, object] = field(default_factory=dict)  # by graph, the exceptions in it

    def report(self, recipe: Recipe) -> verify.Report:
        """Write the files of a recipe, as far as they are not there, and run them."""
        for graph in self.graphs:
            name = graph.spec.name
            exceptions = recipe.exceptions.get(name, {})
            if self.converted.get(name) != exceptions:
                self._convert(graph, recipe)
                self.converted[name] = exceptions
        backend = self.plan.backend
        if self.batch is not None and self.batch.spec.name not in self.converted:
            self._convert(self.batch, _of_batch(backend, recipe))
            self.converted[self.batch.spec.name] = {}
        if reason := backend.why_unavailable() if self.job.verify else "--no-verify was given":
            return verify.unverified(reason)
        files = Files(self.stage, backend, recipe, self.plan.contract)
        return verify_files(files, self.graphs, self.expected)

    def fit(self, report: verify.Report, reference: Predictor) -> "Fit":
        """Raise groups of layers until the files hold."""
        from mobilesam_export import fitting

        def trial(report: verify.Report) -> fitting.Trial:
            return fitting.Trial(sum(readme.artifact_sizes(self.stage).values()), report)

        plan = self.plan
        problem = fitting.Problem(
            recipe=plan.recipe,
            stored=plan.backend.raised_types(plan.recipe),
            accepts=self._accepts,
            graphs=self.graphs,
            contract=plan.contract,
            expected=self.expected,
            ranked_on=fitting.ranking_cases(self.job.calibration, self.expected, reference),
            first=trial(report),
        )
        return fitting.fit(problem, lambda recipe: trial(self.report(recipe)))

    def _accepts(self, recipe: Recipe) -> bool:
        try:
            _parsed(self.plan.backend, self.job.target, recipe)
        except TargetError:
            return False
        return True

    def _convert(self, graph: "Graph", recipe: Recipe) -> None:
        """Write one file."""
        target, plan, name = self.job.target, self.plan, graph.spec.name
        path = self.stage / f"{name}{plan.backend.suffix}"
        remove(path)
        with step(f"Converting the {name}"), target.locating("recipe", plan.recipe_name):
            settings = _parsed(plan.backend, target, recipe)
            metadata = file_metadata(graph.spec, target, plan.recipe_name, self.checkpoint)
            samples = self.calibrated.samples.get(name, ()) if self.calibrated else ()
            conversion = Conversion(settings, recipe, plan.contract, metadata, samples, self.kept)
            plan.backend.convert(graph, conversion, path)


def collect_samples(job: Job, plan: Plan, sam: "Sam") -> calibration.Calibration | None:
    """Samples of a static recipe and of the user's images; None where there are neither."""
    if not plan.recipe.calibrated and job.calibration is None:
        return None
    from mobilesam_export.backends import reference

    with step("Collecting calibration samples"):
        return calibration.collect(job.calibration, reference.load(sam, plan.contract))
