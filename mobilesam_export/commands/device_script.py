"""`mobilesam-export device-script`: a bundle -> what a person runs on a real device."""

from pathlib import Path

import click

from mobilesam_export.commands.common import BUNDLE, OK


@click.command("device-script")
@BUNDLE
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The new folder. [default: BUNDLE-device beside it]",
)
def device_script_command(bundle: Path, out: Path | None) -> int:
    """Write a script that times BUNDLE on a phone or Mac.

    For Android it is a shell script with adb and benchmark_model, for Apple a Swift package.
    `benchmark --import` reads the results back.

    \b
    Example:
      mobilesam-export device-script build/coreml-float16
    """
    from mobilesam_export.benchmark.device_script import write_device_script
    from mobilesam_export.bundle.manifest import open_bundle

    opened = open_bundle(bundle)
    folder = out or bundle.resolve().with_name(f"{bundle.resolve().name}-device")
    files = write_device_script(opened, folder)
    click.echo(click.style(str(folder), bold=True))
    for name in files:
        click.echo(f"  {name}")
    click.echo("  read its README.md; nothing here can run it", err=True)
    return OK
