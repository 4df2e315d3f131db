"""Files as such: hashes, JSON, and writing a file completely or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobilesam_export.errors import MobileSamExportError, OutputError, UsageError

LFS_POINTER = b"version https://git-lfs"  # how what Git LFS leaves in a file's place begins
# Characters of a file's name that its temporary file keeps: with four bytes each, the prefix, the
# process id and the suffix, far from the 255 bytes that file systems allow.
STEM_KEPT = 40


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Write a file completely or leave what is there: a temporary file that replaces it at the end.

    Example:
        with write_whole(path) as part:
            image.save(part)

    Args:
        path: the file's final place.

    Yields:
        A hidden path beside it with the same suffix. If the block raises, it is removed.

    Raises:
        OutputError: an OSError while writing or replacing.
    """
    part = path.with_name(f".{path.stem[:STEM_KEPT]}.part{os.getpid()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those that it is in, where there is none.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def raise_if_full(folder: Path, size: int) -> None:
    """Raise the OSError that a writer in C++ hides, if there is one.

    Args:
        folder: that was written to.
        size: bytes of what was to be written, or more.

    Raises:
        OSError: the disk, or a limit on it, has no room for so much.
    """
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(size))
    finally:
        probe.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, error: type[MobileSamExportError]) -> Any:  # noqa: ANN401 any JSON
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        error: the class to raise; it says what kind of file this is.

    Raises:
        MobileSamExportError: of class `error`; the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise error(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:  # lists nested a thousand deep
        raise error(f"{path} is not JSON: {exc}") from exc


def check_output(path: Path, suffix: str) -> None:
    """Refuse, before any work is done, a file that could not be written at its end.

    Args:
        path: of the file.
        suffix: expected, lower case, such as ".json".

    Raises:
        UsageError: another suffix, a folder of that name, or no folder to write it to.
        OutputError: the system refuses the name.
    """
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path} is not a {suffix} file; choose a name that ends in {suffix}")
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; choose another name")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{path} cannot be written: no such folder as {path.parent}")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
