"""A comparison as text: rows of tables, or Markdown."""

from collections.abc import Iterable, Mapping

from mobilesam_export.compare.comparison import Comparison
from mobilesam_export.compare.decision import Decision, Verdict
from mobilesam_export.compare.gates import MASK_IOU, Gate
from mobilesam_export.tables import NONE, Table, columns, markdown


def decision_table(decisions: Mapping[str, Decision]) -> Table:
    """One line for each component."""
    rows = [
        [name, str(d.verdict), *_interval(d), str(d.pairs), d.reason or _advice(d)]
        for name, d in decisions.items()
    ]
    return ("times", "verdict", "candidate / base", "95 % interval", "pairs", "note"), rows


def _interval(decision: Decision) -> list[str]:
    if not decision.pairs:
        return [NONE, NONE]
    bounded = decision.high < float("inf")
    interval = f"{decision.low:.3f} to {decision.high:.3f}" if bounded else NONE
    return [f"{decision.ratio:.3f}", interval]


def _advice(decision: Decision) -> str:
    if decision.verdict is not Verdict.INCONCLUSIVE:
        return ""
    return f"about {decision.more_pairs} more pairs needed"


def gate_table(gates: Iterable[Gate]) -> Table:
    """One line for each figure."""
    rows = []
    for gate in gates:
        sign = ">=" if gate.figure == MASK_IOU else "<="
        limit = f"{sign} {gate.limit:g}" + ("" if gate.figure == MASK_IOU else " x base")
        note = f"{gate.status}: {gate.reason}" if gate.reason else str(gate.status)
        values = [_figure(gate.base), _figure(gate.candidate)]
        rows.append([gate.component, gate.figure, *values, limit, note])
    return ("file", "figure", "base", "candidate", "limit", "verdict"), rows


def terminal(comparison: Comparison) -> list[str]:
    """Headline and tables, one string for each; `outcome` comes below them."""
    partial = " (PARTIAL, it was interrupted)" if comparison.partial else ""
    sections = [f"{comparison.title}{partial}"]
    if comparison.decisions:
        sections.append(columns(decision_table(comparison.decisions)))
    return [*sections, columns(gate_table(comparison.gates))]


def outcome(comparison: Comparison) -> str:
    """One line: passed, or the failures."""
    failures = comparison.failures
    return f"FAILED: {'; '.join(failures)}" if failures else "passed"


def comparison_markdown(comparison: Comparison) -> str:
    """The summary that a pull request shows."""
    head = outcome(comparison)
    if comparison.partial:
        head += " (partial: it was interrupted)"
    sections = [f"### {comparison.title}: {head}"]
    if comparison.decisions:
        sections.append(markdown(decision_table(comparison.decisions)))
    if comparison.gates:
        sections.append(markdown(gate_table(comparison.gates)))
    return "\n\n".join(sections) + "\n"


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
