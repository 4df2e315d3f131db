"""Checkpoints: official | demo | seeded[:STUDENT][:SALT] | FILE[:ENTRY] -> weights, provenance.

A file is read without running code from it. Its weights are searched for wherever trainers put them
and compared key by key with MobileSAM before anything else happens, so that the error says which
other model a file holds.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mobilesam_export import files
from mobilesam_export.checkpoint import download
from mobilesam_export.checkpoint.identify import (
    Difference,
    Inspection,
    compare_state_dict,
    why_refused,
)
from mobilesam_export.checkpoint.provenance import MODEL, RECOVERED_FOR, Provenance
from mobilesam_export.checkpoint.relatives import recognize
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.checkpoint.state_dict import (
    read_architecture,
    read_metadata,
    read_values,
    why_unreadable,
)
from mobilesam_export.checkpoint.weight_sets import (
    WeightSet,
    choose,
    find_sets,
    is_unused,
    left_over,
    notes_on,
)
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import CheckpointError, UsageError
from mobilesam_export.model import Sam, build_sam, expected_entries
from mobilesam_export.model.architecture import (
    MOBILESAM,
    Architecture,
    architecture_of,
    load_architecture,
    student_names,
)

SOURCES = (
    "official, demo, seeded, seeded:SALT, seeded:STUDENT:SALT or the path of a .pt, .pth or "
    ".safetensors file, with :ENTRY behind it for one of several sets of weights"
)
OFFICIAL_LICENSE = "Apache-2.0 (MobileSAM, https://github.com/ChaoningZhang/MobileSAM)"
DEMO_LICENSE = "Apache-2.0 (mobilesam-export; trained on generated scenes, for demonstration)"
SEEDED_LICENSE = "Apache-2.0 (mobilesam-export; not trained)"


@dataclass(frozen=True)
class Checkpoint:
    """A complete state dict of MobileSAM (439 entries, float32) or a student, and its origin.

    Attributes:
        state_dict: by official names; entries that inference does not use are zeros.
        provenance: for the manifest.
        notes: for the user: what was stripped from names, what of the file is left out.
    """

    state_dict: Mapping[str, Tensor]
    provenance: Provenance
    notes: tuple[str, ...] = ()


def load_checkpoint(source: str) -> Checkpoint:
    """Load and check a checkpoint.

    Args:
        source: one of SOURCES. `$MOBILESAM_CHECKPOINT`, a path, replaces the download of
            "official".

    Raises:
        CheckpointError: it cannot be found, fetched or read, is not MobileSAM, or holds several
            sets of weights and the source does not say which.
    """
    if source == "seeded" or source.startswith("seeded:"):
        return _seeded(source)
    if source == "demo":
        return _demo()
    if source == "official":
        override = os.environ.get("MOBILESAM_CHECKPOINT")
        if not override:
            return _from_file(download.fetch(download.OFFICIAL), "")
        return _from_file(*split_source(override), "$MOBILESAM_CHECKPOINT names ")
    return _from_file(*split_source(source))


def load_matching_checkpoint(provenance: Provenance, source: str | None) -> Checkpoint:
    """Load again the weights that a bundle was exported from, to compare with it.

    Args:
        provenance: the bundle's.
        source: where they are now, or None to take what the provenance names.

    Raises:
        UsageError: they came from a file and `source` is None, or `source` holds other weights.
        CheckpointError: see `load_checkpoint`.
    """
    if source is None:
        source = provenance.source
        if provenance.file_sha256 and source != "official":  # it has a name, never a path
            raise UsageError(
                f"this bundle was exported from the file {source}; give its path with -c"
            )
    checkpoint = load_checkpoint(source)
    if checkpoint.provenance.weights_sha256 != provenance.weights_sha256:
        raise UsageError(
            f"this bundle was exported from other weights ({provenance.source}) than {source} holds"
        )
    return checkpoint


def load_matching_model(provenance: Provenance, source: str | None, image_size: int | Frame) -> Sam:
    """The model that a bundle was exported from; arguments and errors of the above.

    Args:
        provenance: the bundle's.
        source: where its weights are now, or None to take what the provenance names.
        image_size: S of the bundle, or its input's part of the square.
    """
    return build_sam(load_matching_checkpoint(provenance, source).state_dict, image_size)


def split_source(source: str) -> tuple[Path, str]:
    """FILE[:ENTRY] -> the file and the entry; a file whose name has a colon in it is itself."""
    end = len(source)
    while end > 0:
        path = Path(source[:end])
        if why_unreadable(path) == "":
            return path, source[end + 1 :]
        end = source.rfind(":", 0, end)
    return Path(source), ""


def _from_file(path: Path, entry: str, origin: str = "") -> Checkpoint:
    if problem := why_unreadable(path):
        raise CheckpointError(f"{origin}checkpoint {path} {problem}; expected {SOURCES}")
    weights, notes = _usable_weights(path, entry)
    sha256 = files.file_sha256(path)
    official = sha256 == download.OFFICIAL.sha256
    state_dict = _state_dict(weights)
    provenance = Provenance(
        source="official" if official else path.name,
        file_sha256=sha256,
        weights_sha256=weights_sha256(state_dict),
        license=OFFICIAL_LICENSE if official else "that of the given checkpoint",
        trained=True,
        entry=weights.entry,
        architecture=model_name(weights.architecture),
        recovered_for=read_metadata(path).get(RECOVERED_FOR, ""),
    )
    return Checkpoint(state_dict, provenance, tuple(f"{path.name}: {note}" for note in notes))


def _demo() -> Checkpoint:
    packaged = resources.files("mobilesam_export.checkpoint") / "demo.safetensors"
    with resources.as_file(packaged) as path:
        weights, _ = _usable_weights(path, "")
    return _without_file(_state_dict(weights), "demo", DEMO_LICENSE, trained=True)


def _seeded(source: str) -> Checkpoint:
    student, _, salt = source.partition(":")[2].rpartition(":")
    if not student and (salt in student_names() or salt.endswith(".toml")):
        student, salt = salt, ""
    salt = salt or "0"
    if not (salt.isascii() and salt.isdigit() and int(salt) < 2**32):
        raise CheckpointError(f"the salt of {source!r} is not a whole number from 0 to 2**32 - 1")
    architecture = load_architecture(student) if student else MOBILESAM
    weights = seeded_state_dict(int(salt), architecture)
    source = ":".join(filter(None, ("seeded", student, str(int(salt)))))
    return _without_file(weights, source, SEEDED_LICENSE, trained=False)


def model_name(architecture: Architecture) -> str:
    """What people read: MobileSAM, or the numbers of a student."""
    return MODEL if architecture == MOBILESAM else f"{MODEL} student, {architecture}"


def _without_file(
    state_dict: Mapping[str, Tensor], source: str, license_: str, *, trained: bool
) -> Checkpoint:
    weights, model = weights_sha256(state_dict), model_name(architecture_of(state_dict))
    provenance = Provenance(source, "", weights, license_, trained, architecture=model)
    return Checkpoint(state_dict, provenance)


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Hash of the names and values that inference uses, in whatever format and order they came."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        if not is_unused(name):
            digest.update(name.encode())
            digest.update(state_dict[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _FileContent:
    """A file's values, the weights chosen from it, and their difference from MobileSAM's."""

    values: Mapping[str, object]
    sets: Sequence[WeightSet]  # the complete ones
    weights: WeightSet
    difference: Difference
    notes: tuple[str, ...]


def _open(path: Path, entry: str, *, first: bool = False) -> _FileContent:
    """Read a file and choose weights; `first`: of several sets, if there is no entry."""
    values, architecture = read_values(path), read_architecture(path)
    try:
        sets = find_sets(values, architecture)
        complete = [item for item in sets if item.complete]
        several = first and not entry and len(complete) > 1
        weights = choose(complete[:1] if several else sets, entry) or WeightSet(
            "", values, architecture=architecture
        )
    except CheckpointError as exc:
        raise CheckpointError(f"checkpoint {path}: {exc}") from exc
    others = left_over(values, sets)
    difference = compare_state_dict(weights.entries, () if entry else others, architecture)
    return _FileContent(values, complete, weights, difference, notes_on(weights, sets, others))


def _usable_weights(path: Path, entry: str) -> tuple[WeightSet, tuple[str, ...]]:
    """The weights of a file, checked, and notes on them."""
    content = _open(path, entry)
    if content.difference:
        reason = why_refused(content.difference, content.values, content.weights)
        raise CheckpointError(f"{path} {reason}")
    return content.weights, content.notes


def _state_dict(weights: WeightSet) -> dict[str, Tensor]:
    """All entries of the architecture, float32; zeros for those that inference does not use."""
    return {
        name: torch.zeros(template.shape, dtype=template.dtype)
        if is_unused(name)
        else cast("Tensor", weights.entries[name]).detach().float()
        for name, template in expected_entries(weights.architecture).items()
    }


def inspect_checkpoint(source: str | Path) -> Inspection:
    """Say what a file is, MobileSAM or not.

    Args:
        source: FILE[:ENTRY]; the first set of weights of a file with several if there is no ENTRY.

    Raises:
        CheckpointError: it cannot be read at all, or has no such entry.
    """
    path, entry = split_source(str(source))
    if problem := why_unreadable(path):
        raise CheckpointError(f"checkpoint {path} {problem}")
    content = _open(path, entry, first=True)
    tensors = content.weights.parameters()
    tensors = tensors or [v for v in content.values.values() if isinstance(v, Tensor)]
    sha256 = files.file_sha256(path)
    model = model_name(content.weights.architecture)
    return Inspection(
        path=str(path),
        model=recognize(content.values) if content.difference.other_model else model,
        entry=content.weights.entry,
        sets=tuple(item.name for item in content.sets),
        entries=len(tensors),
        parameters=sum(value.numel() for value in tensors),
        dtypes=tuple(sorted({str(v.dtype).removeprefix("torch.") for v in tensors})),
        file_sha256=sha256,
        official=sha256 == download.OFFICIAL.sha256,
        difference=content.difference,
        notes=content.notes,
    )
