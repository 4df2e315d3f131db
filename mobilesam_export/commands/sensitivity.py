"""`inspect BUNDLE --sensitivity`: what rounding each group of layers costs, as table and bars."""

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.errors import PictureError, UsageError

if TYPE_CHECKING:
    from mobilesam_export.sensitivity import Damage
    from mobilesam_export.verification.cases import PromptCase

PROMPTS = ("click", "box")  # of those that files are verified with; there are many groups
BAR_WIDTH = 24  # characters
WIDTH_IN, ROW_IN = 8.0, 0.26  # inches of the plot
COLORS = {"encoder": "#3b82c4", "decoder": "#c2410c"}


def run(folder: Path, checkpoint: str | None, plot: Path | None) -> dict[str, Any]:
    """Measure, show, and give back what becomes JSON.

    Raises:
        UsageError: the plot cannot be written there, or the bundle's decoder picks its own mask.
        BundleError: it is no bundle. CheckpointError: its weights are not to be had.
    """
    from mobilesam_export import packages, sensitivity
    from mobilesam_export.backends import reference
    from mobilesam_export.bundle import manifest
    from mobilesam_export.graphs import split_graphs
    from mobilesam_export.model import build_sam
    from mobilesam_export.pipeline import reference_checkpoint
    from mobilesam_export.progress import step
    from mobilesam_export.target import Recipe, Tolerance
    from mobilesam_export.verification import cases

    if plot is not None and (plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir()):
        raise UsageError(f"--plot {plot} is to be a .png in a folder that is there")
    if plot is not None:
        packages.require("matplotlib", extra="measure")
    opened = manifest.open_bundle(folder)
    contract = opened.contract
    if contract.dynamic:
        raise UsageError("its layers are those of the onnx target; use a bundle of that one")
    table = dict(opened.manifest["recipe"])
    table.pop("name")
    recipe = Recipe(**{**table, "tolerance": Tolerance(**table["tolerance"])})
    if (recipe.weights, recipe.activations) == ("float32", "float32"):
        raise UsageError("a float32 bundle rounds nothing; give one of another recipe")
    sam = build_sam(reference_checkpoint(opened, checkpoint).state_dict, contract.image_size)
    with step("Asking PyTorch for the expected answers"):
        expected = cases.reference_cases(reference.load(sam, contract), contract)
    with step("Rounding one group of layers after the other"):
        graphs = split_graphs(sam, contract)
        asked = [replace(case, prompts=_few(case.prompts)) for case in expected]
        damages = list(sensitivity.measure(graphs, recipe, asked, contract))
    if plot is not None:
        save_plot(damages, f"{opened.target}, {opened.recipe}", plot)
    return {"path": str(folder), "recipe": opened.recipe, "groups": [asdict(d) for d in damages]}


def _few(prompts: "tuple[PromptCase, ...]") -> "tuple[PromptCase, ...]":
    return tuple(prompt for prompt in prompts if prompt.name in PROMPTS)


def render(result: dict[str, Any]) -> str:
    """A table with a bar for each group: how much of the mask is lost."""
    groups = result["groups"]
    most = max((_loss(group) for group in groups), default=0.0) or 1.0
    lines = [
        f"{result['recipe']}: each group alone in the recipe's numbers, the rest float32 "
        "(in PyTorch, on generated scenes)",
        f"{'':9}{'group':<32}{'weights':>10}{'PSNR':>8}{'mask IoU':>10}{'worst':>8}  lost",
    ]
    for group in groups:
        psnr = group["embedding_psnr_db"]
        shown = "" if psnr is None else "exact" if math.isinf(psnr) else f"{psnr:.1f}"
        bar = "█" * math.ceil(BAR_WIDTH * _loss(group) / most) if _loss(group) > 0 else ""
        lines.append(
            f"{group['graph']:<9}{group['group']:<32}{group['numbers']:>10,}{shown:>8}"
            f"{group['mask_iou_mean']:>10.4f}{group['mask_iou_min']:>8.4f}  {bar}"
        )
    return "\n".join(lines)


def _loss(group: dict[str, Any]) -> float:
    return max(0.0, 1 - float(group["mask_iou_mean"]))


def save_plot(damages: Sequence["Damage"], title: str, path: Path) -> None:
    """Bars of the mean mask IoU that each group loses, as a PNG, whole or not at all.

    Raises:
        PictureError: it cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    names = [f"{damage.graph} {damage.group}" for damage in damages]
    losses = [max(0.0, 1 - damage.mask_iou_mean) for damage in damages]
    colors = [COLORS[damage.graph] for damage in damages]
    figure = Figure(figsize=(WIDTH_IN, ROW_IN * len(damages) + 0.8), layout="constrained")
    panel = figure.subplots()
    bars = panel.barh(names, losses, color=colors)
    panel.bar_label(bars, fmt="%.4f", padding=3, fontsize=8)
    panel.invert_yaxis()
    panel.set_title(f"Mask IoU lost to each group alone: {title}", fontsize=10)
    part = path.with_name(f".{path.stem}.part{os.getpid()}.png")
    try:
        figure.savefig(part, dpi=120)
        part.replace(path)
    except OSError as exc:
        raise PictureError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def print_result(result: dict[str, Any], *, as_json: bool) -> None:
    """On stdout; JSON has no infinity, which is a PSNR without any difference: null."""
    if not as_json:
        click.echo(render(result))
        return
    for group in result["groups"]:
        psnr = group["embedding_psnr_db"]
        group["embedding_psnr_db"] = None if psnr is None or math.isinf(psnr) else psnr
    click.echo(json.dumps(result, indent=2, allow_nan=False))
