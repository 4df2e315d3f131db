"""`mobilesam-export all`: export for every built-in target."""

import click

from mobilesam_export.commands.export import ExportOptions, export_options, export_targets
from mobilesam_export.target import Target, builtin_targets, load_target


@click.command("all")
@export_options
def all_command(options: ExportOptions) -> int:
    """Export for every target with its default recipe.

    --out is their common folder. Targets of optional extras are left out, with a line on stderr,
    where these are not installed.

    \b
    Example:
      mobilesam-export all -c demo
    """
    targets, skipped = exportable_targets()
    return export_targets(targets, options, skipped)


def exportable_targets() -> tuple[list[Target], dict[str, str]]:
    """The built-in targets that `all` exports here, and why it leaves out the others, by name."""
    from mobilesam_export.backends import get_backend

    targets, skipped = [], {}
    for target in map(load_target, builtin_targets()):
        backend = get_backend(target.backend)
        if backend.optional and (reason := backend.why_cannot_convert()):
            skipped[target.name] = reason
        else:
            targets.append(target)
    return targets, skipped
