"""A bundle comes to its place whole: written beside it, then exchanged for what is there.

Whatever happens, the place holds the old bundle or the new one.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mobilesam_export.bundle import swap
from mobilesam_export.errors import BundleError, OutputError, UsageError

MANIFEST = "manifest.json"


IGNORED = {".DS_Store"}  # what macOS' Finder leaves wherever it looks


STALE_AFTER_S = 60


PROJECT = "mobilesam-export"


def check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but a bundle, an empty folder or nothing.

    Raises:
        BundleError: files would be lost that this program did not write.
        OutputError: the system refuses the name or the place.
        UsageError: this is the working folder, or one that it is in.
    """
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise UsageError(f"--out {folder} is the working folder or around it; name a new folder")
    try:
        if folder.is_symlink():
            raise BundleError(f"{folder} is a link; choose another --out, or what it points to")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BundleError(f"{folder} exists and is not a folder; choose another --out")
        foreign = next(_foreign_files(folder), None)
    except OSError as exc:
        raise OutputError(f"cannot write to {folder}: {exc.strerror}") from exc
    if foreign is not None:
        raise BundleError(
            f"{folder} holds files that {PROJECT} did not write ({foreign}); "
            "move them away or choose another --out"
        )


def _foreign_files(folder: Path) -> Iterator[str]:
    known: set[str] = set()
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        manifest = json.loads((folder / MANIFEST).read_text())
        known = {MANIFEST, *manifest["files"]} if manifest["tool"] == PROJECT else set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and path.name not in IGNORED and name not in known:
            yield name


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, gone afterwards unless it was published.

    Raises:
        OutputError: the disk is full or may not be written to.
    """
    parent = folder.absolute().parent
    prefix = f".{folder.name}.tmp-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        swap.restore(folder)
        _remove_stale(parent, prefix)
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        stage.chmod(0o755)  # mkdtemp's 0700 would stay on the bundle
    except OSError as exc:
        raise OutputError(f"cannot write to {parent}: {exc.strerror}") from exc
    lock = os.open(stage, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # says that this process is alive; see _remove_stale
    try:
        yield stage
    except OSError as exc:
        raise OutputError(f"cannot write {folder}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


def _remove_stale(parent: Path, prefix: str) -> None:
    """Remove what killed exports left: old enough to be locked by its owner, and not locked."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < STALE_AFTER_S:
                continue
            lock = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def publish(stage: Path, folder: Path) -> None:
    """Put a finished stage in its place, atomically; an old bundle there ends up in `stage`.

    Raises:
        BundleError: something else has come to be in that place meanwhile.
    """
    while True:
        try:
            stage.rename(folder)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return
        check_replaceable(folder)
        with contextlib.suppress(FileNotFoundError):  # it has gone: rename again
            swap.exchange(stage, folder)
            return
