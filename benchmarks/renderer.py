"""Processor time of the browser's renderers that this process has started, as Linux counts it.

On a machine with other work, a file's time is also that of the others; its processor time hardly.
With one thread it is what the file takes where nothing else runs.
"""

import os
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")


def processor_clock() -> Callable[[], float]:
    """A call that says how many milliseconds all threads of the renderers have run so far.

    Raises:
        RuntimeError: no renderer is found, as where there is no /proc.
    """
    found = [path for path in PROC.glob("[0-9]*") if _is_renderer(path)]
    if not found:
        raise RuntimeError("no renderer of this process is found in /proc")

    def elapsed() -> float:
        threads = (path for process in found for path in (process / "task").iterdir())
        return sum(map(_nanoseconds, threads)) / 1e6

    return elapsed


def _is_renderer(process: Path) -> bool:
    try:
        if b"--type=renderer" not in (process / "cmdline").read_bytes():
            return False
        while process.name not in ("0", "1", str(os.getpid())):
            process = PROC / (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:  # it has ended
        return False
    return process.name == str(os.getpid())


def _nanoseconds(thread: Path) -> int:
    try:
        return int((thread / "schedstat").read_text().split()[0])
    except OSError:  # it has ended
        return 0
