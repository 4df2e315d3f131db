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
from collections.abc import Iterator
from pathlib import Path

from mobilesam_export.bundle import swap
from mobilesam_export.errors import BundleError, OutputError, UsageError

MANIFEST = "manifest.json"
IGNORED = {".DS_Store"}  # what macOS' Finder leaves wherever it looks
# Folders that tools fill beside the samples' sources, and fill again when they are gone.
CACHES = {".build", ".gradle", "__pycache__", "node_modules"}
PROJECT = "mobilesam-export"
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # of a rename to what is there


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
        name = path.relative_to(folder)
        if path.is_dir() or path.name in IGNORED or CACHES.intersection(name.parent.parts):
            continue
        if name.as_posix() not in known:
            yield name.as_posix()


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, gone afterwards unless it was published.

    Raises:
        OutputError: the disk is full or may not be written to.
    """
    parent = folder.absolute().parent
    prefix = f".{folder.name}.tmp-"
    with contextlib.ExitStack() as cleanup:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            swap.restore(folder)
            _remove_leftovers(parent, prefix)
            stage = _locked_folder(parent, prefix, cleanup)
            stage.chmod(0o755)  # mkdtemp's 0700 would stay on the bundle
        except OSError as exc:
            raise OutputError(f"cannot write to {parent}: {exc.strerror}") from exc
        try:
            yield stage
        except OSError as exc:
            raise OutputError(f"cannot write {folder}: {exc.strerror or exc}") from exc


def _locked_folder(parent: Path, prefix: str, cleanup: contextlib.ExitStack) -> Path:
    """A new folder whose lock this process holds until `cleanup` removes it.

    Another export may take the folder for a leftover before it is locked, and remove it. It holds
    the lock meanwhile, so a folder that is still there once we have the lock stays ours.
    """
    while True:
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        cleanup.callback(shutil.rmtree, stage, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # removed before it was opened
            lock = os.open(stage, os.O_RDONLY)
            cleanup.callback(os.close, lock)
            with contextlib.suppress(OSError):  # a file system without locks: no one removes it
                fcntl.flock(lock, fcntl.LOCK_EX)
            if stage.exists():
                return stage


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove the folders of killed exports: those that no living process has locked."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
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
            if exc.errno not in OCCUPIED:
                raise
        else:
            return
        check_replaceable(folder)
        try:
            swap.exchange(stage, folder)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, *OCCUPIED):
                raise
        else:
            return
