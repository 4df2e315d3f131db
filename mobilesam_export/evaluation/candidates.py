"""Bundles, and the PyTorch model that they were exported from, as candidates."""

from collections.abc import Sequence
from pathlib import Path

from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_matching_model
from mobilesam_export.contract import plain_contract
from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation.scores import SLOTS, Candidate, Interface, interface
from mobilesam_export.progress import step

PYTORCH = "PyTorch float32"


def open_bundles(paths: Sequence[Path]) -> list[Bundle]:
    """Bundles that can be evaluated on the same images.

    Raises:
        BundleError: one is damaged or no bundle. UsageError: their image sizes differ.
    """
    bundles = [open_bundle(path) for path in paths]
    if len({item.contract.image_size for item in bundles}) > 1:
        raise UsageError("bundles of different image sizes; evaluate them one by one")
    return bundles


def bundle_candidate(name: str, bundle: Bundle) -> Candidate:
    """A bundle with its files loaded.

    Args:
        name: for tables.
        bundle: the bundle.

    Raises:
        BackendError: its files cannot be run here.
    """
    with step("Loading the bundle"):
        predictor = bundle.predictor()
    files = bundle.graph_files.values()
    identity = "".join(sorted(file.sha256 for file in files))
    return Candidate(name, identity, predictor, sum(file.bytes for file in files))


def pytorch_candidates(
    bundles: Sequence[Bundle], checkpoint: str | None
) -> dict[Interface, Candidate]:
    """The float32 model that these bundles were exported from, by interface.

    SAM's predictor is always there, those of other people are if a bundle has them: SAM's own ONNX
    graph chooses another mask for a box alone, Apple's segmenter stretches images.

    Args:
        bundles: at least one bundle.
        checkpoint: its checkpoint, or None for the one that the first manifest names.

    Raises:
        UsageError: their weights differ, or `checkpoint` holds other weights.
    """
    if len({item.provenance.weights_sha256 for item in bundles}) > 1:
        raise UsageError("bundles of different weights have no PyTorch model in common")
    provenance, side = bundles[0].provenance, bundles[0].contract.image_size
    contracts = {interface(item.contract): item.contract for item in bundles}
    contracts[SLOTS] = plain_contract(side, bundles[0].contract.max_points)
    found = {}
    for key, contract in contracts.items():
        sam = load_matching_model(provenance, checkpoint, contract.size)
        predictor = reference.load(sam, contract)
        found[key] = Candidate(PYTORCH, provenance.weights_sha256, predictor, 0)
    return found
