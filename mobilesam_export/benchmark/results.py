"""Measurements and judgements of one `benchmark`, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mobilesam_export.benchmark.baseline import KIND, SCHEMA_VERSION, Baseline
from mobilesam_export.benchmark.budget import Budget, Judgement
from mobilesam_export.benchmark.machine import Machine
from mobilesam_export.benchmark.measure import Options
from mobilesam_export.benchmark.roofline import Roofline
from mobilesam_export.benchmark.row import Row
from mobilesam_export.verification.status import Status


@dataclass(frozen=True)
class Results:
    """Rows, with their bounds and budget.

    Attributes:
        rows: measured or unverified.
        machine: on which they were measured.
        options: of the measurement.
        memory_kept: whether the allocator keeps freed memory; see `disable_malloc_trim`.
        partial: Ctrl-C ended it; then there are no rooflines and baselines.
        rooflines: the bound of each file that was measured.
        baselines: the bundles by folder name.
        budget: its limits, if one was named.
        judgements: of each limit.
    """

    rows: tuple[Row, ...]
    machine: Machine
    options: Options
    memory_kept: bool
    partial: bool = False
    rooflines: tuple[Roofline, ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    budget: Budget | None = None
    judgements: tuple[Judgement, ...] = ()

    def failed(self, *, strict: bool) -> bool:
        """Whether an answer is wrong or a limit broken; `strict`: or a limit is unverified."""
        failures = {Status.FAILED, Status.UNVERIFIED} if strict else {Status.FAILED}
        return any(row.wrong for row in self.rows) or any(
            j.status in failures for j in self.judgements
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "partial": self.partial,
            "machine": self.machine.as_dict(),
            "options": {**asdict(self.options), "freed_memory_kept": self.memory_kept},
            "rows": [asdict(row) for row in self.rows],
        }
        if self.baselines:
            values["roofline"] = [asdict(line) for line in self.rooflines]
            values["bundles"] = {name: item.as_dict() for name, item in self.baselines.items()}
        if self.budget:
            judgements = [item.as_dict() for item in self.judgements]
            values["budget"] = {"name": self.budget.name, "judgements": judgements}
        return values
