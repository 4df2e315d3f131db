"""A difference for people: a table for a terminal, or Markdown."""

from mobilesam_export.diff.manifests import Change
from mobilesam_export.diff.run import Difference
from mobilesam_export.errors import one_line
from mobilesam_export.tables import NONE, Table, columns, markdown

LONGEST_VALUE = 40  # characters
CONTEXT = 8  # characters that are shown before the first that differs


def outcome(difference: Difference) -> str:
    """One line: how many changes there are, and how many of them break an app."""
    count, breaking = len(difference.changes), len(difference.breaking)
    if not count:
        return "no difference"
    changes = f"{count} change{'s' * (count > 1)}"
    return f"{changes}, {breaking or 'none'} of them break{'s' * (breaking == 1)} an app"


def terminal(difference: Difference) -> str:
    """The table; empty where nothing differs."""
    return columns(_table(difference)) if difference.changes else ""


def difference_markdown(difference: Difference) -> str:
    """Headline and table, for a pull request or release notes."""
    head = f"### {difference.old} to {difference.new}: {outcome(difference)}"
    if not difference.changes:
        return f"{head}\n"
    return f"{head}\n\n{markdown(_table(difference))}\n"


def _table(difference: Difference) -> Table:
    rows = [
        [
            "breaks" if change.breaking else "",
            change.area,
            change.what,
            *_values(change),
            change.reason,
        ]
        for change in difference.changes
    ]
    return ("", "area", "what", "old", "new", "why"), rows


def _values(change: Change) -> list[str]:
    """Old and new; of long ones the part from where they differ on."""
    old, new = _text(change.old), _text(change.new)
    pairs = enumerate(zip(old, new, strict=False))
    start = next((i for i, (left, right) in pairs if left != right), min(len(old), len(new)))
    if start + CONTEXT < LONGEST_VALUE or max(len(old), len(new)) <= LONGEST_VALUE:
        start = 0
    return [_shortened(value, start) for value in (old, new)]


def _text(value: object) -> str:
    if value in (None, ""):
        return NONE
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)


def _shortened(text: str, start: int) -> str:
    if start and text != NONE:
        text = f"...{text[start - CONTEXT :]}"
    return one_line(text, LONGEST_VALUE)
