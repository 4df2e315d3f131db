"""`inspect`: what is in files, and with `--sensitivity` what a recipe does to each layer group."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilesam_export.commands.common import JSON, OK, check_outputs, print_json, print_text
from mobilesam_export.errors import UsageError

if TYPE_CHECKING:
    from mobilesam_export.sensitivity import Sensitivity

BAR_WIDTH = 24  # characters


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
@JSON
def inspect_command(
    path: Path, sensitive: bool, plot: Path | None, checkpoint: str | None, as_json: bool
) -> int:
    """Say what is in BUNDLE's files or in one FILE.

    Ops, sizes, MACs, memory, placement. Nothing is run but for --sensitivity. Where ops are placed
    on Apple's Neural Engine or by TFLite's GPU delegates is told by rules from documents and
    issues; XNNPACK is asked how it cuts a file.

    \b
    Example:
      mobilesam-export inspect build/coreml-float16
      mobilesam-export inspect build/onnx-float32/encoder.onnx --json
      mobilesam-export inspect build/onnx-w8 --sensitivity --plot w8.png
    """
    if sensitive:
        return _print_sensitivity(path, checkpoint, plot, as_json=as_json)
    if plot is not None or checkpoint is not None:
        raise UsageError("--plot and --checkpoint go with --sensitivity")

    from mobilesam_export.bundle.describe import inspect_path
    from mobilesam_export.inspection.text import render

    reports = inspect_path(path)
    if as_json:
        print_json({"path": str(path), "graphs": [asdict(report) for report in reports]})
    else:
        print_text("\n\n".join(render(report) for report in reports))
    return OK


def _print_sensitivity(
    path: Path, checkpoint: str | None, plot: Path | None, *, as_json: bool
) -> int:
    from mobilesam_export import packages
    from mobilesam_export.sensitivity import measure_bundle, save_plot

    check_outputs({".png": plot})
    if plot:
        packages.require("matplotlib", extra="measure")
    found = measure_bundle(path, checkpoint)
    if plot:
        save_plot(found, plot)
    if as_json:
        groups = [damage.as_dict() for damage in found.damages]
        print_json({"path": str(path), "recipe": found.recipe, "groups": groups})
    else:
        print_text(sensitivity_table(found))
    return OK


def sensitivity_table(found: "Sensitivity") -> str:
    """A row with a bar for each group: how much of the mask is lost."""
    most = max((damage.loss for damage in found.damages), default=0.0) or 1.0
    lines = [
        f"{found.recipe}: each group alone in the recipe's precision, the rest float32 "
        "(in PyTorch, on generated scenes)",
        f"{'':9}{'group':<32}{'weights':>10}{'PSNR':>8}{'mask IoU':>10}{'worst':>8}  lost",
    ]
    for damage in found.damages:
        psnr = damage.embedding_psnr_db
        shown = "" if psnr is None else "exact" if math.isinf(psnr) else f"{psnr:.1f}"
        bar = "█" * math.ceil(BAR_WIDTH * damage.loss / most)
        lines.append(
            f"{damage.graph:<9}{damage.group:<32}{damage.numbers:>10,}{shown:>8}"
            f"{damage.mask_iou_mean:>10.4f}{damage.mask_iou_min:>8.4f}  {bar}"
        )
    return "\n".join(lines)
