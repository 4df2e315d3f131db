"""Verdicts of a delegate's rules on single ops."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Whether an op runs where it is meant to."""

    RESIDENT = "resident"
    AT_RISK = "at risk"
    NOT_RESIDENT = "not resident"


SEVERITY = (Verdict.RESIDENT, Verdict.AT_RISK, Verdict.NOT_RESIDENT)


@dataclass(frozen=True)
class Statement:
    """What a rule says of every op that it applies to.

    Attributes:
        name: of the rule.
        verdict: at best; another rule may say something worse of the same op.
        reason: in a sentence.
        source: who says so.
    """

    name: str
    verdict: Verdict
    reason: str
    source: str


@dataclass(frozen=True)
class Placement:
    """Everything that the rules say of one op, at least one statement."""

    statements: tuple[Statement, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the statements."""
        return max((s.verdict for s in self.statements), key=SEVERITY.index)
