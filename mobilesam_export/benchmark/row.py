"""One line of a benchmark: a component of a subject on a device, with every time."""

from collections.abc import Sequence
from dataclasses import dataclass

from mobilesam_export.benchmark.statistics import Latency, summarize

RIGHT, NOT_CHECKED = "right", "not checked"


@dataclass(frozen=True)
class Row:
    """One component of one subject on one device.

    Attributes:
        subject: the bundle's folder name, or "pytorch MODE:PRECISION".
        runtime: what ran it, with its version.
        device: "cpu", "cuda", "all", ... of the backend; "android" or "apple" if imported.
        component: see `subject`.
        machine: the device's name if it is another machine than the report's.
        delegate: what computed the ops on that device; "" where its log does not say.
        threads: CPU threads of a run on that device; 0 where its log does not say.
        load_ms: load time of each fresh session; only encoder and decoder.
        cold_ms: first run after each load.
        warmup_ms: warm-up rounds, not counted.
        times_ms: counted rounds, in order.
        latency: figures of times_ms, or the device's own; None without either.
        answers: "right", "not checked", or a description of the error.
        unverified: why it could not be run here.
    """

    subject: str
    runtime: str
    device: str
    component: str
    machine: str = ""
    delegate: str = ""
    threads: int = 0
    load_ms: tuple[float, ...] = ()
    cold_ms: tuple[float, ...] = ()
    warmup_ms: tuple[float, ...] = ()
    times_ms: tuple[float, ...] = ()
    latency: Latency | None = None
    answers: str = NOT_CHECKED
    unverified: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the answers differ from PyTorch's."""
        return self.answers not in (RIGHT, NOT_CHECKED)


def row_latency(times_ms: Sequence[float]) -> Latency | None:
    """Figures of the times; None without any."""
    return summarize(times_ms) if times_ms else None
