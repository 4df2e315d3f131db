"""Measurements as text: rows of tables, and bars on a terminal."""

import shutil
from collections.abc import Iterable, Sequence

from mobilesam_export.benchmark.budget import Judgement
from mobilesam_export.benchmark.results import Results
from mobilesam_export.benchmark.roofline import Roofline
from mobilesam_export.benchmark.row import Row
from mobilesam_export.tables import NONE, Table, columns, markdown, milliseconds

BAR = 30  # characters of the longest bar


def terminal(results: Results) -> list[str]:
    """Tables and bars, one string for each."""
    sections = [headline(results)]
    if any(row.latency for row in results.rows):
        sections += [columns(latency_table(results.rows)), bars(results.rows)]
    sections.append("\n".join(unverified_lines(results.rows)))
    if lines := results.rooflines:
        sections.append(f"{columns(roofline_table(lines))}\npeak: {_peaks(lines)}")
    if results.judgements:
        sections.append(columns(budget_table(results.judgements)))
    return [section for section in sections if section]


def as_markdown(results: Results) -> str:
    """The tables in Markdown, for GitHub."""
    sections = [headline(results), markdown(latency_table(results.rows))]
    sections += [f"- {line}" for line in unverified_lines(results.rows)]
    if lines := results.rooflines:
        sections += [markdown(roofline_table(lines)), f"Peak: {_peaks(lines)}"]
    if results.judgements:
        sections.append(markdown(budget_table(results.judgements)))
    return "\n\n".join(sections) + "\n"


def headline(results: Results) -> str:
    """The machines and how they were used, in one line each: this one first, then devices."""
    rows = results.rows
    local = [] if rows and all(row.machine for row in rows) else [_this_machine(results)]
    devices = dict.fromkeys((row.machine, row.threads) for row in rows if row.machine)
    return "\n".join([*local, *(_device(name, threads) for name, threads in devices)])


def _device(name: str, threads: int) -> str:
    return f"imported: {name}; {threads} threads for each run" if threads else f"imported: {name}"


def _this_machine(results: Results) -> str:
    machine = results.machine
    partial = "PARTIAL, it was interrupted. " if results.partial else ""
    gpu = f", {machine.gpu}" if machine.gpu else ""
    return (
        f"{partial}{machine.cpu}, {machine.cores} cores{gpu}; "
        f"{results.options.threads} threads for each run"
    )


def _peaks(lines: Iterable[Roofline]) -> str:
    return "; ".join(dict.fromkeys(line.peak for line in lines))


def latency_table(rows: Sequence[Row]) -> Table:
    """One line for each component of each subject."""
    head = (
        "bundle", "on", "component", "median ms", "p90", "p99", "spread", "rounds",
        "load", "cold", "answers",
    )  # fmt: skip
    return head, [_latency_cells(row) for row in rows if not row.unverified or row.latency]


def _latency_cells(row: Row) -> list[str]:
    device = ", ".join(part for part in (row.device, row.delegate, row.machine) if part)
    figures = row.latency
    cells = [row.subject, device, row.component]
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
        f"WRONG: {row.answers}" if row.wrong else row.answers,
    ]


def unverified_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each subject and reason, with its components."""
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
    """Medians as bars of Unicode's eighth blocks, one scale for each component."""
    lines = []
    width = min(BAR, max(10, shutil.get_terminal_size().columns - 60))
    timed = [row for row in rows if row.latency]
    label = max((len(f"{row.subject} on {row.device}") for row in timed), default=0)
    for component in dict.fromkeys(row.component for row in timed):
        lines.append(component)
        group = [row for row in timed if row.component == component]
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
        value = NONE if item.found_ms is None else f"{milliseconds(item.found_ms)} ms"
        reason = f"{item.status}: {item.reason}" if item.reason else str(item.status)
        limit = f"{item.component} {item.statistic.removesuffix('_ms')} <= {item.limit_ms:g} ms"
        rows.append([limit, item.subject or NONE, value, reason])
    return ("budget", "bundle", "found", "verdict"), rows


def roofline_table(lines: Iterable[Roofline]) -> Table:
    """One line for each file."""
    rows = []
    for line in lines:
        prefix = "at least " if line.uncounted else ""
        rows.append(
            [
                line.subject,
                line.device,
                line.component,
                f"{prefix}{line.macs / 1e9:.2f} G",
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
