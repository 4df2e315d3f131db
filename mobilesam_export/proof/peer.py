"""A bundle beside the same graphs and weights in another format, computed by that format's runtime.

For bundles whose own runtime is not on this machine: what stands in for it shares no code with the
peer's runtime, so where both agree, neither is wrong by a mistake of its own.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import packages
from mobilesam_export.backends import Conversion, get_backend
from mobilesam_export.bundle.load import load_predictor
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.errors import BackendError, UsageError
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import step
from mobilesam_export.proof.bundle import REFERENCE, hold_to
from mobilesam_export.target import Target, Tolerance, load_target
from mobilesam_export.verification.report import Report

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.model import Sam


def compare_with_peer(folder: Path, checkpoint: str | None = None) -> Report:
    """Hold a bundle's answers to those of the peer's runtime.

    The limits are `between` those of the bundle's recipe.

    Args:
        folder: the bundle.
        checkpoint: what it was made of, or None to take what its manifest names.

    Returns:
        A report with the peer in the place of PyTorch.

    Raises:
        UsageError: there is no peer for such files or for their recipe.
        BackendError: the peer's packages are missing. BundleError: the bundle is damaged.
    """
    with step("Checking the bundle's hashes"):
        opened = open_bundle(folder)
    target = _peer(opened)
    backend = get_backend(target.backend)
    if reason := backend.why_cannot_convert() or packages.why_missing(*REFERENCE, extra="torch"):
        raise BackendError(f"cannot compare with {backend.runner()}: {reason}")
    from mobilesam_export.checkpoint.load import load_matching_model
    from mobilesam_export.graphs import ranges

    sam = load_matching_model(opened.provenance, checkpoint, opened.contract.size)
    on_grid = bool(opened.provenance.recovered_for)
    folded = ranges.fold_ranges(sam, opened.exponents, on_grid=on_grid)
    with tempfile.TemporaryDirectory() as scratch:
        peer = _converted(folded, opened, target, Path(scratch))
        tolerance = between(opened.recipe.tolerance)
        return hold_to(peer, backend.runner(), opened.predictor(), tolerance)


def between(tolerance: Tolerance) -> Tolerance:
    """How far two answers can be from each other, each within a tolerance of the same third one.

    Twice as far, by the triangle inequality, which holds for 1 - IoU, too (the Jaccard distance).
    """
    return Tolerance(
        embedding_psnr_db=max(0.0, tolerance.embedding_psnr_db - 20 * math.log10(2)),
        logits_error=2 * tolerance.logits_error,
        iou_max_abs_error=min(1.0, 2 * tolerance.iou_max_abs_error),
        mask_iou=max(0.0, 1 - 2 * (1 - tolerance.mask_iou)),
    )


def _peer(opened: Bundle) -> Target:
    """The target of the peer's files.

    Raises:
        UsageError: there is none, or not for this recipe.
    """
    name = get_backend(opened.backend).peer()
    if not name:
        raise UsageError(
            f"there is no second format for the files of {opened.folder}, a bundle of the target "
            f"{opened.target}, to compare them with"
        )
    target = load_target(name)
    if opened.recipe.compressed or opened.recipe_name not in target.recipes:
        raise UsageError(
            f"{opened.folder} is of the recipe {opened.recipe_name}; only those of float32 and "
            f"float16 have the same weights in a file of the target {name}"
        )
    return target


def _converted(sam: "Sam", opened: Bundle, target: Target, folder: Path) -> Predictor:
    """The bundle's graphs as the peer's files, loaded: its export form but for the image input."""
    from mobilesam_export.graphs import split_graphs

    backend, recipe = get_backend(target.backend), target.recipes[opened.recipe_name]
    form = replace(opened.contract.form, image_input=target.graph.image_input)
    contract = replace(opened.contract, form=form, sets=0, split=False)
    settings = backend.parse_recipe(recipe, form, target.options(recipe))
    for graph in split_graphs(sam, contract):
        path = folder / f"{graph.spec.name}{backend.suffix}"
        with step(f"Converting the {graph.spec.name}"):
            backend.convert(graph, Conversion(settings, recipe, contract, {}), path)
    return load_predictor(folder, backend, contract)
