"""`mobilesam-export all`: export for every built-in target."""

import click

from mobilesam_export.commands.export import ExportOptions, export_options, export_targets
from mobilesam_export.target import builtin_targets, load_target


@click.command("all")
@export_options
def all_command(options: ExportOptions) -> int:
    """Export for every target with its default recipe; --out is then their common folder.

    \b
    Example:
      mobilesam-export all -c demo
    """
    return export_targets([load_target(name) for name in builtin_targets()], options)
