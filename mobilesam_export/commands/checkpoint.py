"""`checkpoint`: fetch the official one, or say what a file is."""

from pathlib import Path

import click

from mobilesam_export.commands.common import JSON, OK, print_json


@click.group("checkpoint")
def checkpoint_group() -> None:
    """Fetch the official checkpoint, or say what a file is."""


@checkpoint_group.command("fetch")
def fetch_command() -> int:
    """Download the official checkpoint into the cache, once, and print its path."""
    from mobilesam_export.checkpoint import download

    click.echo(download.fetch(download.OFFICIAL))
    return OK


@checkpoint_group.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@JSON
def inspect_command(path: Path, as_json: bool) -> int:
    """Say what checkpoint PATH is, and how it differs from MobileSAM."""
    from dataclasses import asdict

    from mobilesam_export.checkpoint.load import inspect_checkpoint

    found = inspect_checkpoint(path)
    if as_json:
        print_json(asdict(found))
        return OK
    official = ", the official checkpoint" if found.official else ""
    click.echo(f"{found.path}: {found.model}{official}")
    click.echo(f"  {found.entries} entries, {found.parameters:,} values, {', '.join(found.dtypes)}")
    click.echo(f"  SHA-256 {found.file_sha256}")
    difference = found.difference
    if not difference:
        click.echo("  every key is there with the right shape: it can be exported")
    for kind in ("missing", "unexpected", "reshaped", "retyped", "not_finite"):
        names = getattr(difference, kind)
        for name in names[:10]:
            click.echo(f"  {kind.replace('_', ' ')}: {name}")
        if len(names) > 10:
            click.echo(f"  {kind.replace('_', ' ')}: and {len(names) - 10} more")
    return OK
