"""Keep converters' logs, warnings and progress bars from the user; ours are in `progress`."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from mobilesam_export.progress import console


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what third-party Python prints, logs below ERROR, or warns of, while inside."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sink = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def quiet_descriptors() -> Iterator[None]:
    """The same, and what native code writes to the process's stdout and stderr, too.

    Our own progress goes on: it writes to a copy of the descriptor meanwhile.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    stream, console_file = None, console.file
    try:
        with open(os.devnull, "wb") as sink:  # noqa: PTH123 - a device, not a path of ours
            if console_file.isatty():
                stream = os.fdopen(os.dup(2), "w", encoding="utf-8")
                console.file = stream
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        with quiet():
            yield
    finally:
        console.file = console_file
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        if stream is not None:
            stream.close()
