"""Verdicts of a delegate's rules on single ops."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Whether an op runs on the intended delegate."""

    RESIDENT = "resident"
    AT_RISK = "at risk"
    NOT_RESIDENT = "not resident"


SEVERITY = (Verdict.RESIDENT, Verdict.AT_RISK, Verdict.NOT_RESIDENT)


@dataclass(frozen=True)
class Statement:
    """A rule's statement on the ops that it applies to.

    Attributes:
        name: of the rule.
        verdict: at best; another rule may give a worse one.
        reason: in a sentence.
        source: of the statement.
    """

    name: str
    verdict: Verdict
    reason: str
    source: str


@dataclass(frozen=True)
class Placement:
    """All statements of the rules on one op, at least one."""

    statements: tuple[Statement, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the statements."""
        return max((s.verdict for s in self.statements), key=SEVERITY.index)
