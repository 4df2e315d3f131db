"""Checkpoints: official | demo | seeded[:SALT] | a file -> state dict with provenance.

A file is read without running code from it, unwrapped, and compared key by key with MobileSAM
before anything else happens, so that a wrong file is named for what it is.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor

from mobilesam_export import files
from mobilesam_export.checkpoint import download
from mobilesam_export.checkpoint.identify import Inspection, compare_state_dict, recognize
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.checkpoint.state_dict import no_file, read_state_dict
from mobilesam_export.errors import CheckpointError

SOURCES = "official, demo, seeded, seeded:SALT or the path of a .pt, .pth or .safetensors file"
OFFICIAL_LICENSE = "Apache-2.0 (MobileSAM, https://github.com/ChaoningZhang/MobileSAM)"
DEMO_LICENSE = "Apache-2.0 (mobilesam-export; trained on generated scenes, for demonstration)"
SEEDED_LICENSE = "Apache-2.0 (mobilesam-export; not trained)"


@dataclass(frozen=True)
class Checkpoint:
    """A complete MobileSAM state dict (439 entries, float32) and where it comes from."""

    state_dict: Mapping[str, Tensor]
    provenance: Provenance


def load_checkpoint(source: str) -> Checkpoint:
    """Load and check a checkpoint.

    Args:
        source: one of SOURCES. `$MOBILESAM_CHECKPOINT`, a path, replaces the download of
            "official".

    Raises:
        CheckpointError: it cannot be found, fetched or read, or is not MobileSAM.
    """
    if source == "seeded" or source.startswith("seeded:"):
        return _seeded(source)
    if source == "demo":
        return _demo()
    if source == "official":
        override = os.environ.get("MOBILESAM_CHECKPOINT")
        if not override:
            return _official(download.fetch(download.OFFICIAL))
        return _from_file(Path(override), "$MOBILESAM_CHECKPOINT names ")
    return _from_file(Path(source))


def _official(path: Path) -> Checkpoint:
    state_dict = _checked(read_state_dict(path), str(path))
    sha256 = download.OFFICIAL.sha256
    return _checkpoint(state_dict, "official", sha256, OFFICIAL_LICENSE, trained=True)


def _from_file(path: Path, said_by: str = "") -> Checkpoint:
    if problem := no_file(path):
        raise CheckpointError(f"{said_by}checkpoint {path} {problem}; expected {SOURCES}")
    state_dict = _checked(read_state_dict(path), str(path))
    sha256 = files.file_sha256(path)
    if sha256 == download.OFFICIAL.sha256:
        return _checkpoint(state_dict, "official", sha256, OFFICIAL_LICENSE, trained=True)
    return _checkpoint(state_dict, path.name, sha256, "that of the given checkpoint", trained=True)


def _demo() -> Checkpoint:
    packaged = resources.files("mobilesam_export.checkpoint") / "demo.safetensors"
    with resources.as_file(packaged) as path:
        state_dict = _checked(read_state_dict(path), "the demo checkpoint")
    return _checkpoint(state_dict, "demo", "", DEMO_LICENSE, trained=True)


def _seeded(source: str) -> Checkpoint:
    salt = source.partition(":")[2] or "0"
    if not (salt.isascii() and salt.isdigit() and int(salt) < 2**32):
        raise CheckpointError(f"the salt of {source!r} is not a whole number from 0 to 2**32 - 1")
    state_dict = seeded_state_dict(int(salt))
    return _checkpoint(state_dict, f"seeded:{int(salt)}", "", SEEDED_LICENSE, trained=False)


def _checkpoint(
    state_dict: dict[str, Tensor], source: str, file_sha256: str, license_: str, *, trained: bool
) -> Checkpoint:
    weights = weights_sha256(state_dict)
    return Checkpoint(state_dict, Provenance(source, file_sha256, weights, license_, trained))


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Hash of names and values, whatever file format and order they came in."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        digest.update(name.encode())
        digest.update(state_dict[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _checked(state_dict: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    difference = compare_state_dict(state_dict)
    if difference:
        raise CheckpointError(
            f"{where} is not MobileSAM but {recognize(state_dict)}: {difference.summary()}; "
            "see `mobilesam-export checkpoint inspect`"
        )
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in state_dict.items()
    }


def inspect_checkpoint(path: Path) -> Inspection:
    """Say what a file is, MobileSAM or not.

    Raises:
        CheckpointError: it cannot be read at all.
    """
    if problem := no_file(path):
        raise CheckpointError(f"checkpoint {path} {problem}")
    state_dict = read_state_dict(path)
    sha256 = files.file_sha256(path)
    return Inspection(
        path=str(path),
        model=recognize(state_dict),
        entries=len(state_dict),
        parameters=sum(value.numel() for value in state_dict.values()),
        dtypes=tuple(sorted({str(v.dtype).removeprefix("torch.") for v in state_dict.values()})),
        file_sha256=sha256,
        official=sha256 == download.OFFICIAL.sha256,
        difference=compare_state_dict(state_dict),
    )
