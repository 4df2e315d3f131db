"""A delegate's rules as a table: what each says, and which ops it is about."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mobilesam_export.inspection.graph import Node
from mobilesam_export.inspection.placement import Placement, Statement, Verdict


@dataclass(frozen=True)
class Rule:
    """A statement, and which ops it is about."""

    name: str
    verdict: Verdict
    applies: Callable[[Node], bool]
    reason: str
    source: str

    def statement(self) -> Statement:
        """The same without the code."""
        return Statement(self.name, self.verdict, self.reason, self.source)


def judge(node: Node, rules: Iterable[Rule]) -> Placement:
    """Everything that the rules say of one op."""
    return Placement(tuple(rule.statement() for rule in rules if rule.applies(node)))
