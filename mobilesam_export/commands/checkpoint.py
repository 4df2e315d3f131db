"""`checkpoint`: fetch the official one, or say what a file is."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import click

from mobilesam_export.commands.common import JSON, OK, print_json

if TYPE_CHECKING:
    from mobilesam_export.checkpoint.identify import Inspection

SHOWN = 10  # names of one kind


@click.group("checkpoint")
def checkpoint_group() -> None:
    """Fetch the official checkpoint, or say what a file is."""


@checkpoint_group.command("fetch")
def fetch_command() -> int:
    """Download the official checkpoint, and print its path.

    It is kept in the cache.
    """
    from mobilesam_export.checkpoint import download

    click.echo(download.fetch(download.OFFICIAL))
    return OK


@checkpoint_group.command("inspect")
@click.argument("path")
@JSON
def inspect_command(path: str, as_json: bool) -> int:
    """Say what checkpoint PATH is, and how it differs from MobileSAM.

    PATH:ENTRY is one of several sets of weights in a file.
    """
    from mobilesam_export.checkpoint.load import inspect_checkpoint

    inspection = inspect_checkpoint(path)
    if as_json:
        print_json(asdict(inspection))
    else:
        _print(inspection)
    return OK


def _print(found: "Inspection") -> None:
    official = ", the official checkpoint" if found.official else ""
    click.echo(f"{found.path}: {found.model}{official}")
    click.echo(f"  {found.entries} entries, {found.parameters:,} values, {', '.join(found.dtypes)}")
    click.echo(f"  SHA-256 {found.file_sha256}")
    for note in found.notes:
        click.echo(f"  note: {note}")
    if len(found.sets) > 1:
        click.echo(f"  {len(found.sets)} sets of weights: {', '.join(found.sets)}")
    difference = found.difference
    if not difference:
        several = len(found.sets) > 1
        how = f", with -c {found.path}:ENTRY to choose one" if several else ""
        click.echo(f"  every key is there with the right shape: it can be exported{how}")
    for field in fields(difference):
        kind, names = field.name.replace("_", " "), getattr(difference, field.name)
        for name in names[:SHOWN]:
            click.echo(f"  {kind}: {name}")
        if len(names) > SHOWN:
            click.echo(f"  {kind}: and {len(names) - SHOWN} more")
