"""`mobilesam-export diff`: what a new bundle changes for an app; parse, call, print, write."""

from pathlib import Path

import click

from mobilesam_export.commands.common import FAILED, JSON, OK, check_outputs, print_json, print_text
from mobilesam_export.files import write_text


@click.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a .md.")
@JSON
def diff_command(old: Path, new: Path, markdown: Path | None, as_json: bool) -> int:
    """Say what NEW changes for an app made for the bundle OLD.

    Compares contract, least runtimes and systems, sizes, ops, recipe, weights, figures and golden
    masks; no file is run. Exit code 3: a change breaks an app that worked with OLD.

    \b
    Example:
      mobilesam-export diff release/onnx-float32 build/onnx-float32 --markdown changes.md
    """
    from mobilesam_export.diff.run import diff_bundles
    from mobilesam_export.diff.text import difference_markdown, outcome, terminal

    check_outputs({".md": markdown})
    difference = diff_bundles(old, new)
    if as_json:
        print_json(difference.as_dict())
    else:
        print_text("\n\n".join(filter(None, (terminal(difference), outcome(difference)))))
    if markdown:
        write_text(markdown, difference_markdown(difference))
    return FAILED if difference.breaking else OK
