"""Measurements and comparisons for people: aligned columns on a terminal, or Markdown."""

import shutil
from collections.abc import Iterable, Mapping, Sequence

from mobilesam_export.budget import Judgement
from mobilesam_export.compare import Comparison
from mobilesam_export.latency.decision import Decision, Verdict
from mobilesam_export.latency.gates import MASK_IOU, Gate
from mobilesam_export.latency.results import Row
from mobilesam_export.latency.roofline import Roofline

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
BAR = 30  # characters of the longest bar
NONE = "–"


def columns(table: Table) -> str:
    """Left-aligned columns, two spaces apart."""
    head, rows = table
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """A table for GitHub."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latency_table(rows: Sequence[Row]) -> Table:
    """One line for each component of each subject."""
    head = (
        "bundle", "on", "component", "median ms", "p90", "p99", "spread", "rounds",
        "load", "cold", "answers",
    )  # fmt: skip
    return head, [_latency_cells(row) for row in rows if not row.unverified or row.latency]


def _latency_cells(row: Row) -> list[str]:
    where = f"{row.device}, {row.machine}" if row.machine else row.device
    figures = row.latency
    cells = [row.subject, where, row.component]
    if figures is None:
        return [*cells, *[NONE] * 8]
    return [
        *cells,
        milliseconds(figures.median_ms),
        milliseconds(figures.p90_ms),
        milliseconds(figures.p99_ms),
        NONE if figures.spread is None else f"{figures.spread:.0%}",
        str(figures.rounds),
        milliseconds(_median(row.load_ms)),
        milliseconds(_median(row.cold_ms)),
        row.answers if row.answers in ("right", "not checked") else f"WRONG: {row.answers}",
    ]


def unverified_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each subject and reason, with the components that it is about."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.unverified and not row.latency:
            key = (row.subject, row.device, row.unverified)
            groups.setdefault(key, []).append(row.component)
    return [
        f"unverified: {subject} on {device}: {reason} ({', '.join(components)})"
        for (subject, device, reason), components in groups.items()
    ]


def bars(rows: Sequence[Row]) -> str:
    """Medians as bars, one scale for each component; what Unicode's eighths can show."""
    lines = []
    width = min(BAR, max(10, shutil.get_terminal_size().columns - 60))
    shown = [row for row in rows if row.latency]
    label = max((len(f"{row.subject} on {row.device}") for row in shown), default=0)
    for component in dict.fromkeys(row.component for row in shown):
        lines.append(component)
        group = [row for row in shown if row.component == component]
        longest = max(row.latency.median_ms for row in group if row.latency)
        for row in group:
            assert row.latency is not None  # noqa: S101 for mypy
            eighths = max(1, round(row.latency.median_ms / longest * width * 8))
            bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
            name = f"{row.subject} on {row.device}".ljust(label)
            lines.append(f"  {name}  {bar} {milliseconds(row.latency.median_ms)} ms")
    return "\n".join(lines)


def budget_table(judgements: Iterable[Judgement]) -> Table:
    """One line for each limit and subject."""
    rows = []
    for item in judgements:
        found = NONE if item.found_ms is None else f"{milliseconds(item.found_ms)} ms"
        reason = f"{item.verdict}: {item.reason}" if item.reason else str(item.verdict)
        limit = f"{item.component} {item.statistic.removesuffix('_ms')} <= {item.limit_ms:g} ms"
        rows.append([limit, item.subject or NONE, found, reason])
    return ("budget", "bundle", "found", "verdict"), rows


def roofline_table(lines: Iterable[Roofline]) -> Table:
    """One line for each file."""
    rows = []
    for line in lines:
        least = "at least " if line.uncounted else ""
        rows.append(
            [
                line.subject,
                line.device,
                line.component,
                f"{least}{line.macs / 1e9:.2f} G",
                f"{line.bytes / 1e6:.1f} MB",
                NONE
                if line.bound_ms is None
                else f"{milliseconds(line.bound_ms)} ms ({line.limited_by})",
                NONE if line.share is None else f"{line.share:.0%}",
            ]
        )
    return ("bundle", "on", "roofline of", "MACs", "bytes", "bound", "reached"), rows


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
    known = decision.high < float("inf")
    interval = f"{decision.low:.3f} to {decision.high:.3f}" if known else NONE
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
        note = f"{gate.verdict}: {gate.reason}" if gate.reason else gate.verdict
        values = [_figure(gate.base), _figure(gate.candidate)]
        rows.append([gate.component, gate.figure, *values, limit, note])
    return ("file", "figure", "base", "candidate", "limit", "verdict"), rows


def comparison_markdown(comparison: Comparison, title: str) -> str:
    """The summary that a pull request shows."""
    failed = comparison.failed
    head = f"FAILED: {'; '.join(failed)}" if failed else "passed"
    if comparison.partial:
        head += " (partial: it was interrupted)"
    parts = [f"### {title}: {head}"]
    if comparison.decisions:
        parts.append(markdown(decision_table(comparison.decisions)))
    if comparison.gates:
        parts.append(markdown(gate_table(comparison.gates)))
    return "\n\n".join(parts) + "\n"


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def milliseconds(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
