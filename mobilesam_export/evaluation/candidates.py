"""Bundles, and the PyTorch model that they were made of, ready to be evaluated."""

from collections.abc import Sequence
from pathlib import Path

from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_matching_checkpoint
from mobilesam_export.contract import plain_contract
from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation.scores import Candidate
from mobilesam_export.model import build_sam
from mobilesam_export.progress import step

PYTORCH = "PyTorch float32"


def open_bundles(paths: Sequence[Path]) -> list[Bundle]:
    """Bundles that can be evaluated on the same images.

    Raises:
        BundleError: one is damaged or no bundle. UsageError: their image sizes differ.
    """
    opened = [open_bundle(path) for path in paths]
    if len({item.contract.image_size for item in opened}) > 1:
        raise UsageError("bundles of different image sizes; evaluate them one by one")
    return opened


def bundle_candidate(name: str, opened: Bundle) -> Candidate:
    """A bundle with its files loaded.

    Args:
        name: for tables.
        opened: the bundle.

    Raises:
        BackendError: its files cannot be run here.
    """
    with step("Loading the bundle"):
        predictor = opened.predictor()
    files = opened.graph_files.values()
    identity = "".join(sorted(file.sha256 for file in files))
    return Candidate(name, identity, predictor, sum(file.bytes for file in files))


def pytorch_candidate(opened: Sequence[Bundle], checkpoint: str | None) -> Candidate:
    """The float32 model that all these bundles were made of.

    Args:
        opened: at least one bundle.
        checkpoint: where its checkpoint is, or None for what the first manifest names.

    Raises:
        UsageError: they were made of different weights, or `checkpoint` holds others.
    """
    if len({item.provenance.weights_sha256 for item in opened}) > 1:
        raise UsageError("bundles of different weights have no PyTorch model in common")
    weights = load_matching_checkpoint(opened[0].provenance, checkpoint)
    side = opened[0].contract.image_size
    contract = plain_contract(side, opened[0].contract.max_points)
    predictor = reference.load(build_sam(weights.state_dict, side), contract)
    return Candidate(PYTORCH, weights.provenance.weights_sha256, predictor, 0)
