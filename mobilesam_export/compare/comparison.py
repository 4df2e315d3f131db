"""The result of `compare`, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mobilesam_export.benchmark.machine import Machine
from mobilesam_export.compare.decision import Decision, Verdict
from mobilesam_export.compare.gates import Gate
from mobilesam_export.verification.status import Status

KIND = "mobilesam-export compare"


@dataclass
class Pairs:
    """Times of one component as they come: blocks of (base, candidate) in ms."""

    blocks: list[list[tuple[float, float]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Pairs in all blocks."""
        return sum(map(len, self.blocks))

    def complete(self, size: int) -> list[list[tuple[float, float]]]:
        """Blocks that were not interrupted."""
        return [block for block in self.blocks if len(block) == size]


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with a base.

    Attributes:
        base, candidate: names for people.
        machine: that times were measured on.
        threads: CPU threads of one run.
        gates: figures without noise.
        decisions: on times, by component.
        pairs: raw times, by component.
        partial: Ctrl-C ended it.
    """

    base: str
    candidate: str
    machine: Machine
    threads: int
    gates: Sequence[Gate]
    decisions: Mapping[str, Decision]
    pairs: Mapping[str, Pairs]
    partial: bool = False

    @property
    def title(self) -> str:
        """Names of candidate and base."""
        return f"{self.candidate} against {self.base}"

    @property
    def status(self) -> Status:
        """Failed if a component is slower or a gate has failed; never unverified."""
        return Status.FAILED if self.failures else Status.PASSED

    @property
    def failures(self) -> list[str]:
        """The failures in words."""
        times = [f"{n} is slower" for n, d in self.decisions.items() if d.verdict is Verdict.SLOWER]
        gates = [f"{g.component} {g.figure}" for g in self.gates if g.status is Status.FAILED]
        return times + gates

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an interval without end is null."""
        decisions = {}
        for name, decision in self.decisions.items():
            values = asdict(decision)
            values["high"] = values["high"] if decision.high < float("inf") else None
            decisions[name] = {**values, "blocks_ms": self.pairs[name].blocks}
        return {
            "kind": KIND,
            "base": self.base,
            "candidate": self.candidate,
            "machine": self.machine.as_dict(),
            "threads": self.threads,
            "decisions": decisions,
            "gates": [gate.as_dict() for gate in self.gates],
            "failed": self.failures,
            "partial": self.partial,
        }
