"""Tables for people: aligned columns on a terminal, or Markdown."""

from collections.abc import Sequence

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
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


def milliseconds(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
