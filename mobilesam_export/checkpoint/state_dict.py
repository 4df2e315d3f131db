"""A checkpoint file of any kind -> name -> tensor, without running code that is in it."""

import pickle
import zipfile
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from mobilesam_export.errors import CheckpointError

WRAPPERS = ("model", "state_dict", "model_state_dict")


def no_file(path: Path) -> str:
    """Why this is no file that could be read; empty if it is one."""
    try:
        if not path.exists():
            return "does not exist"
        return (
            "" if path.is_file() else f"is {'a folder' if path.is_dir() else 'not a regular file'}"
        )
    except OSError as exc:  # a name too long, a folder that may not be entered
        return f"cannot be read ({exc.strerror})"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of unknown kind, without running code from it, down to name -> tensor.

    Raises:
        CheckpointError: it is damaged, no checkpoint at all, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        content = _read_pickle(path) if head[:2] == b"PK" or head[:1] == b"\x80" else None
        content = load_file(path) if content is None else content
    except OSError as exc:
        raise CheckpointError(f"cannot read checkpoint {path}: {exc.strerror or exc}") from exc
    except safetensors.SafetensorError as exc:
        raise CheckpointError(f"cannot read checkpoint {path}: {_what_else(head)}") from exc
    return _unwrap(content, path)


def _read_pickle(path: Path) -> object:
    if zipfile.is_zipfile(path):
        names = zipfile.ZipFile(path).namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(
                f"checkpoint {path} is a TorchScript archive; save its state_dict() with torch.save"
            )
        if not any(name.endswith("/data.pkl") for name in names):
            raise CheckpointError(f"checkpoint {path} is a zip archive but not a PyTorch file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise CheckpointError(
            f"checkpoint {path} holds more than tensors (a pickle with code in it) and was not "
            "run; save its state_dict() with torch.save or safetensors"
        ) from exc
    except (RuntimeError, EOFError, ValueError, KeyError) as exc:
        raise CheckpointError(
            f"cannot read checkpoint {path}: damaged or cut short ({path.stat().st_size:,} bytes)"
        ) from exc


def _what_else(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if head.lstrip()[:1] == b"<":
        return "a web page, not a checkpoint; download the raw file"
    return "neither a PyTorch file nor safetensors, or cut short"


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    if not (isinstance(content, dict) and content):
        raise CheckpointError(f"checkpoint {path} holds no state dict: {type(content).__name__}")
    odd = [key for key, value in content.items() if not _is_plain(value)]
    if odd:
        what = "dense tensor" if isinstance(content[odd[0]], Tensor) else "tensor"
        raise CheckpointError(f"checkpoint {path}: {odd[0]!r} is not a {what}")
    prefixed = all(str(key).startswith("module.") for key in content)  # torch's DataParallel
    return {
        str(key).removeprefix("module.") if prefixed else str(key): value.detach()
        for key, value in content.items()
    }


def _is_plain(value: object) -> bool:
    """Whether this is a tensor with content, and not sparse."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
