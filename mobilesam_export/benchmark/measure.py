"""Subjects -> how long each component takes. Everything runs in turns, and answers are checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.row import NOT_CHECKED, RIGHT, Row, row_latency
from mobilesam_export.benchmark.subject import COMPONENTS, GRAPHS, Loaded, graph_inputs
from mobilesam_export.benchmark.timing import Schedule, Series, run_rounds, steady, time_call
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.contract import Contract
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import step
from mobilesam_export.session import Session
from mobilesam_export.target import Tolerance
from mobilesam_export.verification.cases import ImageCase


@dataclass(frozen=True)
class Subject:
    """Something that can be measured, not loaded yet.

    Attributes:
        name: for the table.
        device: where it runs.
        runtime: what runs it, as far as that is known before.
        contract: of its graphs.
        case: an image and prompts with PyTorch's answers.
        tolerance: how far off its answers may be.
        open: "encoder" or "decoder" -> a fresh session.
        reason: why it cannot be run here.
    """

    name: str
    device: str
    runtime: str
    contract: Contract
    case: ImageCase
    tolerance: Tolerance
    open: Callable[[str], Session]
    reason: str = ""

    @property
    def label(self) -> str:
        """Unique among the subjects of one benchmark."""
        return f"{self.name} on {self.device}"


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        components: which, in this order.
        schedule: warm-up, rounds and time for each.
        loads: fresh sessions for load time and cold start, 1 or more.
        threads: CPU threads for one run, 0 for the runtime's own choice.
    """

    components: Sequence[str] = COMPONENTS
    schedule: Schedule = field(default_factory=Schedule)
    loads: int = 3
    threads: int = 0


@dataclass
class _Found:
    """What one subject has shown so far."""

    runtime: str
    load_ms: dict[str, list[float]] = field(default_factory=lambda: {g: [] for g in GRAPHS})
    cold_ms: dict[str, list[float]] = field(default_factory=lambda: {g: [] for g in GRAPHS})
    series: dict[str, Series] = field(default_factory=dict)


def bundle_subjects(opened: Bundle, device: str | None, threads: int) -> list[Subject]:
    """A bundle on every device of its backend, or on one.

    Raises:
        BundleError: its golden vectors cannot be read.
    """
    backend = get_backend(opened.backend)
    case = golden.read(opened.folder / "golden")[0]
    devices = backend.devices()
    wanted = (
        devices if device is None else {device: devices.get(device, _why_no_device(opened, device))}
    )
    here = [name for name, reason in wanted.items() if not reason]
    # What no machine of this kind has is said once, not for each of its variants.
    shown = here or list(wanted)[:1]

    def open_on(name: str) -> Callable[[str], Session]:
        return lambda graph: opened.session(graph, name, threads)

    return [
        Subject(
            name=opened.folder.resolve().name,
            device=name,
            runtime=backend.runner() if not wanted[name] else opened.backend,
            contract=opened.contract,
            case=case,
            tolerance=opened.recipe.tolerance,
            open=open_on(name),
            reason=wanted[name],
        )
        for name in shown
    ]


def _why_no_device(opened: Bundle, device: str) -> str:
    return f"{opened.target} bundles do not run on {device}"


def measure(subjects: Sequence[Subject], options: Options) -> tuple[tuple[Row, ...], bool]:
    """Load every subject, then time component by component, subjects in turns.

    Returns:
        Rows, and whether Ctrl-C ended it before its time: then rows have what there was.

    Raises:
        BackendError: a file cannot be loaded or run.
    """
    found = {subject.label: _Found(subject.runtime) for subject in subjects}
    interrupted = False
    try:
        loaded = {
            subject.label: _load(subject, options.loads, found[subject.label])
            for subject in subjects
            if not subject.reason
        }
        for component in options.components if loaded else ():
            with step(f"Timing {component}"):
                _time(component, loaded, options.schedule, found)
    except KeyboardInterrupt:
        interrupted = True
    rows = [
        row
        for subject in subjects
        for row in _rows(subject, found[subject.label], options.components)
    ]
    return tuple(rows), interrupted


def _load(subject: Subject, loads: int, found: _Found) -> Loaded:
    """Open both files several times, run each once; the last ones are kept."""
    sessions: dict[str, Session] = {}
    with step(f"Loading {subject.label}"), steady():
        for _ in range(loads):
            for graph in GRAPHS:
                sessions.pop(graph, None)  # the memory of two of them would count
                load_ms, session = time_call(lambda graph=graph: subject.open(graph))  # type: ignore[misc]
                sessions[graph] = session
                found.load_ms[graph].append(load_ms)
                found.runtime = session.runtime
                inputs = graph_inputs(subject.case, subject.contract, graph)
                found.cold_ms[graph].append(time_call(lambda: session.run(inputs))[0])  # noqa: B023
    predictor = Predictor(sessions["encoder"], sessions["decoder"], subject.contract)
    return Loaded(predictor, subject.case, subject.tolerance)


def _time(
    component: str, loaded: dict[str, Loaded], schedule: Schedule, found: dict[str, _Found]
) -> None:
    tasks = {label: item.tasks([component])[component] for label, item in loaded.items()}
    series = {label: found[label].series.setdefault(component, Series()) for label in loaded}
    with steady():
        run_rounds(tasks, schedule, series)


def _rows(subject: Subject, found: _Found, components: Sequence[str]) -> list[Row]:
    rows = []
    for component in components:
        series = found.series.get(component, Series())
        answers = RIGHT if series.times_ms else NOT_CHECKED
        if component in ("preprocess", "postprocess"):
            answers = NOT_CHECKED  # they are our own code, and checked as part of the paths
        reason = subject.reason
        if not reason and not series.times_ms:
            reason = "interrupted before it was measured"
        rows.append(
            Row(
                subject=subject.name,
                runtime=found.runtime,
                device=subject.device,
                component=component,
                load_ms=tuple(found.load_ms.get(component, ())),
                cold_ms=tuple(found.cold_ms.get(component, ())),
                warmup_ms=tuple(series.warmup_ms),
                times_ms=tuple(series.times_ms),
                latency=row_latency(series.times_ms),
                answers=series.wrong or answers,
                unverified=reason,
            )
        )
    return rows
