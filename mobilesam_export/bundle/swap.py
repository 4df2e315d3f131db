"""Exchange two folders in one step, which neither POSIX nor Python offers.

Linux: renameat2(2) with RENAME_EXCHANGE. macOS: renamex_np(2) with RENAME_SWAP.
"""

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
from pathlib import Path

AT_FDCWD = -100  # Linux: paths are relative to the working directory
RENAME_EXCHANGE = RENAME_SWAP = 2
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def exchange(first: Path, second: Path) -> None:
    """Let each of two existing folders have the other's name.

    File systems that cannot exchange (some network ones) get two renames instead; what a process
    killed between them leaves, `restore` puts back.

    Raises:
        OSError: it could not be done. If another process puts something in the place of `second`
            meanwhile, or takes it away, the errno is ENOENT, ENOTEMPTY or EEXIST: try again.
    """
    code = _exchange(os.fsencode(first), os.fsencode(second))
    if code == 0:
        return
    if code not in UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(second))
    aside = Path(tempfile.mkdtemp(prefix=_prefix(second), dir=second.absolute().parent))
    second.rename(aside)
    try:
        first.rename(second)
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(OSError):
            aside.rename(second)
        raise
    with contextlib.suppress(OSError):  # `restore` removes what stays aside, or has removed it
        aside.rename(first)


def restore(folder: Path) -> None:
    """Put back what an exchange by two renames that was killed has left beside `folder`."""
    for aside in folder.absolute().parent.glob(f"{glob.escape(_prefix(folder))}*"):
        with contextlib.suppress(OSError):  # its owner lives and has moved it meanwhile
            if any(aside.iterdir()) and not folder.exists():
                aside.rename(folder)
            else:
                shutil.rmtree(aside, ignore_errors=True)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.old-"


def _exchange(first: bytes, second: bytes) -> int:
    """errno, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(first, second, RENAME_SWAP)
        else:
            failed = libc.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)
    except AttributeError:  # a C library without the function
        return errno.ENOSYS
    return ctypes.get_errno() if failed else 0
