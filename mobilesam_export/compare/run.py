"""`compare` from options to a comparison: open, count, compare masks, time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mobilesam_export import packages
from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.baseline import Masks, bundle_masks, read_baselines
from mobilesam_export.benchmark.figures import Figures, bundle_figures
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.benchmark.timing import disable_malloc_trim
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.compare.comparison import Comparison, Pairs
from mobilesam_export.compare.decision import Decision, Rule, Verdict
from mobilesam_export.compare.gates import (
    DEFAULT_MASK_IOU,
    LIMITS,
    MASK_IOU,
    Gate,
    judge_figures,
    judge_masks,
)
from mobilesam_export.compare.pairs import (
    Plan,
    check_comparable,
    compare_times,
    component_inputs,
    not_comparable,
    opener,
)
from mobilesam_export.contract import SPLIT_FILES
from mobilesam_export.errors import MeasurementError, UsageError
from mobilesam_export.progress import step
from mobilesam_export.verification.status import Status

TIME = "time"


@dataclass(frozen=True)
class CompareOptions:
    """Options of `compare`.

    Attributes:
        base: a bundle, or a file of `benchmark --save`.
        candidate: a bundle.
        components: files to time, of GRAPHS and SPLIT_FILES; empty for all that both bundles have.
        device: to time on; "" for the backend's first.
        threads: CPU threads of one run, 0 for the runtime's own choice.
        limits: NAME=NUMBER, each changing one of the default limits.
        max_pairs: after which a component stays inconclusive, 1 or more.
        max_seconds: the same, for all components together.
        no_times: only the figures without noise.

    Raises:
        UsageError: a number is out of range.
    """

    base: Path
    candidate: Path
    components: tuple[str, ...] = ()
    device: str = ""
    threads: int = 1
    limits: tuple[str, ...] = ()
    max_pairs: int = 200
    max_seconds: float = 135.0
    no_times: bool = False

    def __post_init__(self) -> None:
        if self.max_pairs < 1:
            raise UsageError(f"--max-pairs is {self.max_pairs}; expected 1 or more")
        if self.threads < 0:
            raise UsageError(f"--threads is {self.threads}; expected 0 or more")
        if not self.max_seconds > 0:
            raise UsageError(f"--max-seconds is {self.max_seconds:g}; expected more than 0")


@dataclass(frozen=True)
class Base:
    """The base of a comparison.

    Attributes:
        name: for people.
        figures: by graph.
        masks: empty without any.
        bundle: None if this is a stored baseline.
        why_no_times: for a stored baseline.
    """

    name: str
    figures: Mapping[str, Figures]
    masks: Masks
    bundle: Bundle | None
    why_no_times: str = ""


@dataclass(frozen=True)
class Times:
    """Pairs and decisions by component, as they come; `interrupted` by Ctrl-C."""

    pairs: dict[str, Pairs] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    interrupted: bool = False


def run(options: CompareOptions) -> Comparison:
    """Compare a candidate with a base; Ctrl-C ends it early, and the comparison is then partial.

    Raises:
        MobileSamExportError: a bundle, file of measurements or limit is wrong, or cannot be run.
    """
    packages.require("scipy", extra="measure")  # scenes, and the interval of the decision
    limits = parse_limits(options.limits)
    with step("Checking the bundles' hashes"):
        candidate = open_bundle(options.candidate)
        base = open_base(options.base, candidate)
    options = replace(options, components=_components(base, candidate, options))
    with step("Counting what is in the files"):
        gates = judge_figures(base.figures, bundle_figures(candidate), limits)
    with step("Comparing masks"):
        gates.append(_gate_masks(base, candidate, limits[MASK_IOU]))
    times = Times() if options.no_times else _times(base, candidate, options, limits[TIME])
    return Comparison(
        base=base.name,
        candidate=options.candidate.resolve().name,
        machine=this_machine(),
        threads=options.threads,
        gates=gates,
        decisions=times.decisions,
        pairs=times.pairs,
        partial=times.interrupted,
    )


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER, as on the command line, over the defaults.

    Raises:
        UsageError: there is no such limit, or its number is out of range.
    """
    limits = {TIME: Rule().limit, **LIMITS, MASK_IOU: DEFAULT_MASK_IOU}
    for item in texts:
        name, _, text = item.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        low, high = (0.0, 1.0) if name == MASK_IOU else (1.0, float("inf"))
        in_range = low <= value <= high and value < float("inf") and (name != TIME or value > 1)
        if name not in limits or not in_range:
            raise UsageError(
                f"--limit {item}: expected NAME=RATIO of 1 or more (time: above 1; mask_iou: 0 to "
                f"1) with one of: {', '.join(limits)}"
            )
        limits[name] = value
    return limits


def open_base(path: Path, candidate: Bundle) -> Base:
    """A bundle, or the bundle of the candidate's target in a file of `benchmark --save`.

    Raises:
        BundleError, MeasurementError: it cannot be read. UsageError: it is of another kind.
    """
    if path.suffix == ".json":
        return _stored(path, candidate)
    base = open_bundle(path)
    check_comparable(base, candidate)
    return Base(path.resolve().name, bundle_figures(base), {}, base)


def _stored(path: Path, candidate: Bundle) -> Base:
    stored = read_baselines(path)
    key = (candidate.target, candidate.contract.size.option, candidate.contract.points)
    baselines = {
        name: item
        for name, item in stored.baselines.items()
        if (item.target, item.image_size, item.points) == key
    }
    same_recipe = {n: b for n, b in baselines.items() if b.recipe == candidate.recipe_name}
    baselines = same_recipe or baselines
    if len(baselines) != 1:
        raise MeasurementError(
            f"{path} has {len(baselines)} bundles to compare with a {candidate.target} bundle of "
            f"image size {candidate.contract.size}; expected exactly one"
        )
    ((name, item),) = baselines.items()
    same_machine = stored.fingerprint == this_machine().fingerprint
    origin = "an earlier time" if same_machine else "another machine"
    reason = f"the base's times are from {origin}; give its bundle to compare times"
    return Base(f"{name} of {path.name}", item.figures, item.masks, None, reason)


def _gate_masks(base: Base, candidate: Bundle, limit: float) -> Gate:
    reason = candidate.why_not_run()
    if reason:
        return Gate("bundle", MASK_IOU, None, None, limit, Status.UNVERIFIED, reason)
    masks = _masks(candidate)
    return judge_masks(_masks(base.bundle) if base.bundle else base.masks, masks, limit)


def _masks(bundle: Bundle) -> Masks:
    return bundle_masks(bundle.predictor())


def _times(base: Base, candidate: Bundle, options: CompareOptions, limit: float) -> Times:
    """Time both, component by component, until Ctrl-C ends it."""
    components = options.components
    devices = get_backend(candidate.backend).devices()
    device = options.device or next(iter(devices))
    here = devices.get(device, f"no device {device!r}") or candidate.why_not_run()
    reason = base.why_no_times or here
    if reason or base.bundle is None:
        decision = not_comparable(reason)
        return Times({n: Pairs() for n in components}, dict.fromkeys(components, decision))
    disable_malloc_trim()
    times, seconds_left = Times(), options.max_seconds
    for index, name in enumerate(components):
        start = time.perf_counter()
        seconds = seconds_left / (len(components) - index)
        plan = Plan(Rule(limit=limit, max_pairs=options.max_pairs), max_seconds=seconds)
        opens = (
            opener(base.bundle, name, device, options.threads),
            opener(candidate, name, device, options.threads),
        )
        pairs = times.pairs[name] = Pairs()
        try:
            with step(f"Timing the {name}"):
                inputs = component_inputs(candidate, name)
                times.decisions[name] = compare_times(opens, inputs, plan, pairs)
        except KeyboardInterrupt:
            times.decisions[name] = _interrupted(pairs)
            return replace(times, interrupted=True)
        seconds_left -= time.perf_counter() - start
    return times


def _components(base: Base, candidate: Bundle, options: CompareOptions) -> tuple[str, ...]:
    """The files to time.

    Raises:
        UsageError: one that was asked for is not in both.
    """
    split = candidate.contract.split and "prepare" in base.figures
    for name in () if split else options.components:
        if name in SPLIT_FILES:
            raise UsageError(
                f"--component is {name}, which base and candidate do not both have; export both "
                "with --split-decoder"
            )
    return options.components or (GRAPHS + SPLIT_FILES if split else GRAPHS)


def _interrupted(pairs: Pairs) -> Decision:
    reason = "interrupted before a verdict"
    return Decision(Verdict.INCONCLUSIVE, pairs=pairs.count, reason=reason)
