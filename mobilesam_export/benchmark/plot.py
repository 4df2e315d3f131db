"""Measurements -> an image: every time a dot, the median a line, a budget a dashed one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilesam_export import tables
from mobilesam_export.benchmark.results import Results
from mobilesam_export.benchmark.row import Row
from mobilesam_export.benchmark.text import headline
from mobilesam_export.errors import MeasurementError
from mobilesam_export.files import write_whole

INK, DOTS, LIMIT = "#1f2933", "#3b82c4", "#c2410c"
WIDTH_IN, ROW_IN, HEAD_IN = 8.0, 0.34, 0.75


def plot_results(results: Results, path: Path) -> None:
    """The times of a benchmark, with the medians that its budget allows on this machine.

    Raises:
        MeasurementError, OutputError: see `plot`.
    """
    budget = results.budget
    limits_ms: Mapping[str, float] = {}
    if budget and budget.device in {row.device for row in results.rows if row.times_ms}:
        limits_ms = budget.limits.get("median_ms", {})
    plot(results.rows, limits_ms, path, headline(results))


def plot(rows: Sequence[Row], limits_ms: Mapping[str, float], path: Path, title: str) -> None:
    """Write a PNG atomically, one panel for each component.

    Args:
        rows: only those with raw times are plotted.
        limits_ms: component -> its budget.
        path: ends in .png.
        title: of the whole image.

    Raises:
        MeasurementError: there is nothing to draw.
        OutputError: it cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    timed = [row for row in rows if row.times_ms]
    if not timed:
        raise MeasurementError(f"nothing was measured, so that there is no plot for {path}")
    components = list(dict.fromkeys(row.component for row in timed))
    groups = {name: [row for row in timed if row.component == name] for name in components}
    heights = [HEAD_IN + ROW_IN * len(group) for group in groups.values()]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    panels = figure.subplots(len(components), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (component, group) in zip(panels, groups.items(), strict=True):
        _draw(panel, component, group, limits_ms.get(component))
    with write_whole(path) as file:
        figure.savefig(file, dpi=120)


def _draw(panel, component: str, group: Sequence[Row], limit_ms: float | None) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 matplotlib's Axes
    for place, row in enumerate(group):
        count = len(row.times_ms)
        shifts = [((i * 0.618) % 1 - 0.5) * 0.5 for i in range(count)]  # apart, and the same again
        panel.plot(
            row.times_ms, [place + s for s in shifts], "o", ms=3, alpha=0.45, color=DOTS, mew=0
        )
        if row.latency:
            panel.vlines(row.latency.median_ms, place - 0.38, place + 0.38, color=INK, lw=1.8)
            panel.annotate(
                tables.milliseconds(row.latency.median_ms),
                (row.latency.median_ms, place - 0.38),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=INK,
            )
    if limit_ms is not None:
        panel.axvline(limit_ms, ls="--", lw=1.2, color=LIMIT)
    panel.set_yticks(range(len(group)), [f"{row.subject}, {row.device}" for row in group])
    panel.set_ylim(len(group) - 0.4, -0.7)
    panel.set_xlim(left=0)
    panel.set_xlabel("ms", fontsize=8, loc="right")
    panel.set_title(component, loc="left", fontsize=9, color=INK)
    panel.tick_params(labelsize=8, length=0)
    panel.grid(axis="x", lw=0.5, alpha=0.4)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
