"""`mobilesam-export targets`: what can be exported here."""

from typing import Any

import click

from mobilesam_export.commands.common import JSON, OK, print_json
from mobilesam_export.target import builtin_targets, load_target


@click.command("targets")
@JSON
def targets_command(as_json: bool) -> int:
    """List targets, their recipes, and which can be run here."""
    rows = [_row(name) for name in builtin_targets()]
    if as_json:
        print_json({"targets": rows})
        return OK
    for row in rows:
        recipes = [f"{r} (default)" if r == row["default_recipe"] else r for r in row["recipes"]]
        click.echo(f"{click.style(row['target'], bold=True)}: {row['description']}")
        click.echo(f"  recipes: {', '.join(recipes)}")
        why = row["unavailable"]
        click.echo(f"  verified here: {'no, ' + why if why else 'by ' + row['verified_by']}")
    return OK


def _row(name: str) -> dict[str, Any]:
    from mobilesam_export.backends import get_backend

    target = load_target(name)
    backend = get_backend(target.backend)
    return {
        "target": name,
        "description": target.description,
        "recipes": list(target.recipes),
        "default_recipe": target.default_recipe,
        "unavailable": backend.why_unavailable(),
        "verified_by": backend.runner(),
    }
