"""A delegate's rules as a table: statements, and the ops that they apply to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mobilesam_export.inspection.graph import Node
from mobilesam_export.inspection.placement import Placement, Statement, Verdict


@dataclass(frozen=True)
class Rule:
    """A statement, and the ops that it applies to."""

    name: str
    verdict: Verdict
    applies: Callable[[Node], bool]
    reason: str
    source: str

    def statement(self) -> Statement:
        """The rule's statement, without its code."""
        return Statement(self.name, self.verdict, self.reason, self.source)


def judge(node: Node, rules: Iterable[Rule]) -> Placement:
    """Apply all rules to one op."""
    return Placement(tuple(rule.statement() for rule in rules if rule.applies(node)))
