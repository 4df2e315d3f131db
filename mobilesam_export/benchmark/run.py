"""`benchmark` from options to results: open, measure, count, judge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobilesam_export.benchmark import measure
from mobilesam_export.benchmark.baseline import Baseline, baseline, bundle_masks
from mobilesam_export.benchmark.budget import judge, load_budget
from mobilesam_export.benchmark.device_results import import_rows
from mobilesam_export.benchmark.figures import bundle_reports
from mobilesam_export.benchmark.machine import this_machine, usable_cores
from mobilesam_export.benchmark.results import Results
from mobilesam_export.benchmark.roofline import rooflines
from mobilesam_export.benchmark.subject import COMPONENTS
from mobilesam_export.benchmark.timing import Schedule, disable_malloc_trim
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.errors import UsageError
from mobilesam_export.progress import step


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `benchmark`.

    Attributes:
        bundles: folders.
        device: the only one to measure on; None for all available ones.
        components: of COMPONENTS; empty for all.
        threads: CPU threads of one run; 0 for all cores.
        rounds, warmup, max_seconds: see `Schedule`.
        loads: fresh sessions for load time and cold start, 1 or more.
        pytorch: MODE[:PRECISION] of the checkpoint in PyTorch, beside the bundles.
        checkpoint: for PyTorch; None for what the first bundle names.
        budget: "paper" or the path of a TOML; None for no budget.
        imports: files of results of a device script.
        masks: whether to keep the masks that the bundles answer, as a baseline needs.

    Raises:
        UsageError: a value is out of range, there is nothing to measure, or two names are equal.
    """

    bundles: tuple[Path, ...] = ()
    device: str | None = None
    components: tuple[str, ...] = ()
    threads: int = 0
    rounds: int = 30
    warmup: int = 2
    max_seconds: float = 30.0
    loads: int = 3
    pytorch: tuple[str, ...] = ()
    checkpoint: str | None = None
    budget: str | None = None
    imports: tuple[Path, ...] = ()
    masks: bool = False

    def __post_init__(self) -> None:
        if not self.bundles and not self.imports:
            raise UsageError("nothing to measure: give at least one BUNDLE or --import FILE")
        for name, minimum in (("rounds", 1), ("loads", 1), ("warmup", 0), ("threads", 0)):
            if (value := getattr(self, name)) < minimum:
                raise UsageError(f"--{name} is {value}; expected {minimum} or more")
        if not self.max_seconds > 0:
            raise UsageError(f"--max-seconds is {self.max_seconds:g}; expected more than 0")
        if self.pytorch and not self.bundles:
            raise UsageError("--pytorch measures the checkpoint of a bundle: give a BUNDLE, too")
        if len({path.resolve() for path in self.bundles}) < len(self.bundles):
            raise UsageError(
                "the same BUNDLE is given twice; `compare` runs a bundle against itself"
            )
        names = [path.resolve().name for path in self.bundles]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two bundles are called {duplicates[0]}; rename the folder of one")


def run(options: BenchmarkOptions) -> Results:
    """Measure everything; Ctrl-C ends it early, and the results are then partial.

    Raises:
        MobileSamExportError: a bundle, budget or file of results is wrong, or a file cannot be run.
    """
    budget = load_budget(options.budget) if options.budget else None
    device_rows = [row for path in options.imports for row in import_rows(path)]
    with step("Checking the bundles' hashes"):
        bundles = [open_bundle(path) for path in options.bundles]
    settings = measure.Options(
        components=options.components or COMPONENTS,
        schedule=Schedule(options.warmup, options.rounds, options.max_seconds),
        loads=options.loads,
        threads=options.threads or usable_cores(),
    )
    subjects = _subjects(bundles, options, settings.threads)
    memory_kept = disable_malloc_trim()
    rows, partial = measure.measure(subjects, settings)
    results = Results((*rows, *device_rows), this_machine(), settings, memory_kept, partial)
    if budget:
        hardware = (results.machine.cpu, results.machine.gpu)
        judgements = tuple(judge(budget, results.rows, hardware))
        results = replace(results, budget=budget, judgements=judgements)
    return results if partial else _with_figures(results, bundles, masks=options.masks)


def _subjects(
    bundles: Sequence[Bundle], options: BenchmarkOptions, threads: int
) -> list[measure.Subject]:
    subjects = [
        subject
        for item in bundles
        for subject in measure.bundle_subjects(item, options.device, threads)
    ]
    if options.pytorch:
        from mobilesam_export.benchmark.pytorch_subjects import parse_modes, pytorch_subjects

        modes = parse_modes(options.pytorch, options.device or "cpu")
        subjects += pytorch_subjects(bundles[0], options.checkpoint, modes, threads)
    return subjects


def _with_figures(results: Results, bundles: Sequence[Bundle], *, masks: bool) -> Results:
    """Add rooflines and baselines of the bundles."""
    if not bundles:
        return results
    with step("Counting MACs and bytes, measuring the machine's peak"):
        reports = {_name(item): bundle_reports(item) for item in bundles}
        precisions = {_name(item): item.recipe.activations for item in bundles}
        threads = results.options.threads
        lines = rooflines(
            results.rows, reports, precisions, results.machine, results.budget, threads
        )
    baselines = {_name(item): baseline(item, reports[_name(item)]) for item in bundles}
    if masks:
        baselines = {_name(item): _with_masks(baselines[_name(item)], item) for item in bundles}
    return replace(results, rooflines=tuple(lines), baselines=baselines)


def _with_masks(measured: Baseline, bundle: Bundle) -> Baseline:
    if bundle.why_not_run():
        return measured
    return replace(measured, masks=bundle_masks(bundle.predictor()))


def _name(bundle: Bundle) -> str:
    return bundle.folder.resolve().name
