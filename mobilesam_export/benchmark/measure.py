"""Subjects -> times of each component. Subjects run in turns, and answers are checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.row import NOT_CHECKED, RIGHT, Row, row_latency
from mobilesam_export.benchmark.subject import COMPONENTS, GRAPHS, LoadedSubject, graph_inputs
from mobilesam_export.benchmark.timing import Schedule, Series, gc_disabled, run_rounds, time_call
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
    """Something to measure, not loaded yet.

    Attributes:
        name: for the table.
        device: on which it runs.
        runtime: name of the runtime, as far as it is known before loading.
        contract: of its graphs.
        case: an image and prompts with PyTorch's answers.
        tolerance: largest allowed errors of its answers.
        open: "encoder" or "decoder" -> a fresh session.
        reason: why it cannot run here; "" if it can.
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
    """Options of a measurement.

    Attributes:
        components: to measure, in this order.
        schedule: warm-up, rounds and time for each.
        loads: fresh sessions for load time and cold start, 1 or more.
        threads: CPU threads for one run, 0 for the runtime's own choice.
    """

    components: Sequence[str] = COMPONENTS
    schedule: Schedule = field(default_factory=Schedule)
    loads: int = 3
    threads: int = 0


@dataclass
class _Record:
    """Times of one subject so far."""

    runtime: str
    load_ms: dict[str, list[float]] = field(default_factory=lambda: {g: [] for g in GRAPHS})
    cold_ms: dict[str, list[float]] = field(default_factory=lambda: {g: [] for g in GRAPHS})
    series: dict[str, Series] = field(default_factory=dict)


def bundle_subjects(bundle: Bundle, device: str | None, threads: int) -> list[Subject]:
    """A bundle on every device of its backend, or on one.

    Raises:
        BundleError: its golden vectors cannot be read. UsageError: one file is encoder and decoder.
    """
    bundle.contract.check_apart("benchmark times")
    backend = get_backend(bundle.backend)
    case = golden.read(bundle.folder / "golden")[0]
    devices = backend.devices()
    if reason := bundle.why_not_run():
        devices = {name: why or reason for name, why in devices.items()}
    reasons = (
        devices if device is None else {device: devices.get(device, _why_no_device(bundle, device))}
    )
    available = [name for name, reason in reasons.items() if not reason]
    # A device that this kind of machine lacks is reported once, not for each of its variants.
    names = available or list(reasons)[:1]

    def open_on(name: str) -> Callable[[str], Session]:
        return lambda graph: bundle.session(graph, name, threads)

    return [
        Subject(
            name=bundle.folder.resolve().name,
            device=name,
            runtime=backend.runner() if not reasons[name] else bundle.backend,
            contract=bundle.contract,
            case=case,
            tolerance=bundle.recipe.tolerance,
            open=open_on(name),
            reason=reasons[name],
        )
        for name in names
    ]


def _why_no_device(bundle: Bundle, device: str) -> str:
    return f"{bundle.target} bundles do not run on {device}"


def measure(subjects: Sequence[Subject], options: Options) -> tuple[tuple[Row, ...], bool]:
    """Load every subject, then time component by component, subjects in turns.

    Returns:
        Rows, and whether Ctrl-C interrupted it: then rows hold the times up to there.

    Raises:
        BackendError: a file cannot be loaded or run.
    """
    records = {subject.label: _Record(subject.runtime) for subject in subjects}
    interrupted = False
    try:
        ready = {
            subject.label: _load(subject, options.loads, records[subject.label])
            for subject in subjects
            if not subject.reason
        }
        for component in options.components if ready else ():
            with step(f"Timing {component}"):
                _time(component, ready, options.schedule, records)
    except KeyboardInterrupt:
        interrupted = True
    rows = [
        row
        for subject in subjects
        for row in _rows(subject, records[subject.label], options.components)
    ]
    return tuple(rows), interrupted


def _load(subject: Subject, loads: int, record: _Record) -> LoadedSubject:
    """Open both files several times, run each once; the last ones are kept."""
    sessions: dict[str, Session] = {}
    with step(f"Loading {subject.label}"), gc_disabled():
        for _ in range(loads):
            for graph in GRAPHS:
                sessions.pop(graph, None)  # the memory of two of them would count
                load_ms, session = time_call(lambda graph=graph: subject.open(graph))  # type: ignore[misc]
                sessions[graph] = session
                record.load_ms[graph].append(load_ms)
                record.runtime = session.runtime
                inputs = graph_inputs(subject.case, subject.contract, graph)
                record.cold_ms[graph].append(time_call(lambda: session.run(inputs))[0])  # noqa: B023
    if subject.contract.split:  # they are timed as part of the click alone
        sessions |= {name: subject.open(name) for name in ("prepare", "decoder_prepared")}
    predictor = Predictor(contract=subject.contract, **sessions)
    return LoadedSubject(predictor, subject.case, subject.tolerance)


def _time(
    component: str,
    loaded: dict[str, LoadedSubject],
    schedule: Schedule,
    records: dict[str, _Record],
) -> None:
    tasks = {label: item.tasks([component])[component] for label, item in loaded.items()}
    series = {label: records[label].series.setdefault(component, Series()) for label in loaded}
    with gc_disabled():
        run_rounds(tasks, schedule, series)


def _rows(subject: Subject, record: _Record, components: Sequence[str]) -> list[Row]:
    rows = []
    for component in components:
        series = record.series.get(component, Series())
        answers = RIGHT if series.times_ms else NOT_CHECKED
        if component in ("preprocess", "postprocess"):
            answers = NOT_CHECKED  # our own code, checked as part of the paths
        reason = subject.reason
        if not reason and not series.times_ms:
            reason = "interrupted before it was measured"
        rows.append(
            Row(
                subject=subject.name,
                runtime=record.runtime,
                device=subject.device,
                component=component,
                load_ms=tuple(record.load_ms.get(component, ())),
                cold_ms=tuple(record.cold_ms.get(component, ())),
                warmup_ms=tuple(series.warmup_ms),
                times_ms=tuple(series.times_ms),
                latency=row_latency(series.times_ms),
                answers=series.fault or answers,
                unverified=reason,
            )
        )
    return rows
