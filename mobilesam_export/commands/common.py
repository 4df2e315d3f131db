"""What several commands share: exit codes, arguments, how results are printed."""

import json
from pathlib import Path
from typing import Any

import click

OK, ERROR, USAGE, FAILED = 0, 1, 2, 3
BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def styled(summary: str) -> str:
    """Green, red or yellow by the first word; only on terminals."""
    colors = {"verified": "green", "FAILED": "red"}
    return click.style(summary, fg=colors.get(summary.partition(" ")[0], "yellow"))


def print_notes(*notes: str) -> None:
    """Say on stderr what must be known of the runtimes that computed; see `Session.note`."""
    for note in dict.fromkeys(filter(None, notes)):
        click.echo(f"note: {note}", err=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))
