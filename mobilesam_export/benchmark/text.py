"""Measurements for people: rows of tables, and bars on a terminal."""

import shutil
from collections.abc import Iterable, Sequence

from mobilesam_export.benchmark.budget import Judgement
from mobilesam_export.benchmark.results import Row
from mobilesam_export.benchmark.roofline import Roofline
from mobilesam_export.tables import NONE, Table, milliseconds

BAR = 30  # characters of the longest bar


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


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
