"""`mobilesam-export run`: export for a target by its name or file."""

import click

from mobilesam_export.commands.export import ExportOptions, export_options, export_targets
from mobilesam_export.target import load_target


@click.command("run")
@click.argument("target")
@export_options
def run_command(target: str, options: ExportOptions) -> int:
    """Export for TARGET, a name or the path of your own TOML.

    \b
    Example:
      mobilesam-export run my-target.toml -c finetuned.pt
    """
    return export_targets([load_target(target)], options)
