"""A checkpoint file of any kind -> its values by name, without running code that is in it."""

import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

from mobilesam_export.checkpoint.inert import Inert, safe_globals
from mobilesam_export.errors import CheckpointError
from mobilesam_export.files import LFS_POINTER
from mobilesam_export.model.architecture import (
    METADATA,
    MOBILESAM,
    Architecture,
    parse_architecture,
)

MAX_DEPTH = 32  # dictionaries inside dictionaries; training loops write three or four
MAX_VALUES = 200_000  # SAM 3, the largest relative, and its optimizer have some thousand
# What torch and its unpickler raise for bytes that are not what they expect.
DAMAGED = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
# What a pickle names that is a model of its own and not weights, by the first part of the name.
PICKLED = {
    "ultralytics": "an ultralytics model (FastSAM, the detector of MobileSAMv2 or another YOLO), "
    "not MobileSAM",
    "torchao": "weights quantized by torchao; give the checkpoint from before it was quantized",
}


def why_unreadable(path: Path) -> str:
    """Why this is no file that could be read; empty if it is one."""
    try:
        if not path.exists():
            return "does not exist"
        return (
            "" if path.is_file() else f"is {'a folder' if path.is_dir() else 'not a regular file'}"
        )
    except OSError as exc:  # a name too long, a folder that may not be entered
        return f"cannot be read ({exc.strerror})"


def read_values(path: Path) -> dict[str, object]:
    """Read a file of unknown kind, without running code from it.

    Returns:
        Every value that lies in a dictionary, by its name; where dictionaries are nested, the
        names on the way are joined with dots: {"model": {"a.weight": x}} gives "model.a.weight".

    Raises:
        CheckpointError: it is damaged, no checkpoint at all, or needs code to be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        content = _read_pickle(path) if _is_pickle(head) else load_file(path)
    except OSError as exc:
        raise CheckpointError(f"cannot read checkpoint {path}: {exc.strerror or exc}") from exc
    except safetensors.SafetensorError as exc:
        raise CheckpointError(f"cannot read checkpoint {path}: {_guess_file_kind(head)}") from exc
    values: dict[str, object] = {}
    for name, value in _flat(content, path):
        if name in values:
            raise CheckpointError(f"checkpoint {path} holds {name!r} twice")
        values[name] = value
    if not any(isinstance(value, torch.Tensor) for value in values.values()):
        arrays = any(isinstance(value, Inert) for value in values.values())
        found = "NumPy arrays or other objects" if arrays else type(content).__name__
        raise CheckpointError(
            f"checkpoint {path} holds no state dict of tensors but {found}; save the model's "
            "state_dict() with torch.save or safetensors"
        )
    return values


def read_architecture(path: Path) -> Architecture:
    """What a file that `read_values` has read is the weights of: MobileSAM, or what it says.

    A safetensors file says so in its metadata. Shapes alone do not: of a student with fewer blocks
    they would be the same as those of a damaged MobileSAM.

    Raises:
        CheckpointError: what it says is no architecture.
    """
    text = read_metadata(path).get(METADATA)
    try:
        return MOBILESAM if text is None else parse_architecture(json.loads(text))
    except (ValueError, CheckpointError) as exc:
        raise CheckpointError(
            f"checkpoint {path}: the architecture in its metadata: {exc}"
        ) from exc


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file that `read_values` has read says about itself; others say nothing."""
    with path.open("rb") as file:
        if _is_pickle(file.read(64)):
            return {}
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata() or {}


def _is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle, bare or in torch's archive.

    safetensors begins with the length of its header, 8 bytes of which any may be those of a pickle,
    and the "{" of the header.
    """
    return head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")


def _read_pickle(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        with warnings.catch_warnings(record=True) as caught, safe_globals():
            warnings.simplefilter("always")  # of old storages and of pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        messages = [str(exc), *(str(item.message) for item in caught)]
        raise CheckpointError(f"checkpoint {path} {_why_refused('; '.join(messages))}") from exc
    except DAMAGED as exc:
        raise CheckpointError(
            f"cannot read checkpoint {path}: damaged or cut short ({path.stat().st_size:,} bytes)"
        ) from exc


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"checkpoint {path} is a TorchScript archive; save its state_dict() with torch.save"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"checkpoint {path} is a zip archive but not a PyTorch file")


def _why_refused(messages: str) -> str:
    """Describe for users what torch's unpickler refused."""
    refused = re.search(r"GLOBAL ([\w.]+)", messages)
    if refused and (kind := PICKLED.get(refused[1].partition(".")[0])):
        return f"is {kind} (a pickle with {refused[1]} in it, which was not run)"
    if refused or "Unsupported operand" not in messages:
        return (
            f"holds more than tensors (a pickle with {refused[1] if refused else 'code'} in it) "
            "and was not run; save its state_dict() with torch.save or safetensors"
        )
    if protocol := re.search(r"pickle protocol \d", messages):
        return (
            f"is written in {protocol[0]}, which cannot be read without running code in it; save "
            "its state_dict() with torch.save and without pickle_protocol"
        )
    return "is damaged, or a pickle with more than tensors in it, and was not run"


def _guess_file_kind(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if re.match(rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z]", head):
        return "a web page, not a checkpoint; download the raw file"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive; unpack it with `gunzip` or `tar -xzf`"
    return "neither a PyTorch file nor safetensors, or cut short"


def _flat(content: object, path: Path) -> Iterator[tuple[str, object]]:
    """The values of nested dictionaries (and of dictionaries in lists) in the file's order."""
    left = MAX_VALUES

    def walk(node: object, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
        nonlocal left
        named = isinstance(node, dict)
        # Not node.items(): a pickle can give an OrderedDict an attribute of that name.
        for key, value in dict.items(node) if isinstance(node, dict) else enumerate(_items(node)):
            left -= 1
            if left < 0 or depth > MAX_DEPTH:
                raise CheckpointError(f"checkpoint {path} is nested too deeply to be a checkpoint")
            if isinstance(value, dict | list | tuple):
                yield from walk(value, f"{prefix}{key}.", depth + 1)
            elif named:
                yield f"{prefix}{key}", value

    return walk(content, "", 0)


def _items(node: object) -> list[object]:
    return list(node) if isinstance(node, list | tuple) else []
