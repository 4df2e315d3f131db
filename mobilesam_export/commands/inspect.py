"""`inspect`: what is in files, and with `--sensitivity` what a recipe does to each layer group."""

from pathlib import Path

import click

from mobilesam_export.commands import sensitivity
from mobilesam_export.errors import UsageError


@click.command("inspect")
@click.argument("path", metavar="BUNDLE|FILE", type=click.Path(path_type=Path))
@click.option(
    "--sensitivity",
    "sensitive",
    is_flag=True,
    help="Round each group of layers of BUNDLE on its own as its recipe does, and say what the "
    "embedding and the masks lose.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Bars of that, as a .png.")
@click.option("-c", "--checkpoint", help="What it was made of. [default: what it names]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect_command(
    path: Path, sensitive: bool, plot: Path | None, checkpoint: str | None, as_json: bool
) -> int:
    """Say what is in BUNDLE's files or in one FILE: ops, sizes, MACs, memory, placement.

    Nothing is run but for --sensitivity. Where ops are placed on Apple's Neural Engine or by
    TFLite's GPU delegates is told by rules from documents and issues; XNNPACK is asked how it cuts
    a file.

    \b
    Example:
      mobilesam-export inspect build/coreml-float16
      mobilesam-export inspect build/onnx-float32/encoder.onnx --json
      mobilesam-export inspect build/onnx-w8 --sensitivity --plot w8.png
    """
    if sensitive:
        sensitivity.print_result(sensitivity.run(path, checkpoint, plot), as_json=as_json)
        return 0
    if plot is not None or checkpoint is not None:
        raise UsageError("--plot and --checkpoint go with --sensitivity")

    import json
    from dataclasses import asdict

    from mobilesam_export.bundle.describe import inspect_path
    from mobilesam_export.inspection.text import render

    reports = inspect_path(path)
    if as_json:
        result = {"path": str(path), "graphs": [asdict(report) for report in reports]}
        click.echo(json.dumps(result, indent=2, allow_nan=False))
    else:
        click.echo("\n\n".join(render(report) for report in reports))
    return 0
