"""The entry of `mobilesam-export` and of `python -m mobilesam_export`: every error as one line."""

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, TextIO

import click

from mobilesam_export.cli import cli
from mobilesam_export.commands.common import ERROR, USAGE
from mobilesam_export.errors import MobileSamExportError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What click raises where a group gets no command; before 8.2 it printed the help itself.
NO_ARGUMENTS: tuple[type[click.UsageError], ...] = (
    (click.exceptions.NoArgsIsHelpError,) if hasattr(click.exceptions, "NoArgsIsHelpError") else ()
)


def main() -> None:
    """Run the command line and turn every error into one line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.stdout, sys.stderr = outlive_reader(sys.stdout), outlive_reader(sys.stderr)
    try:
        sys.exit(cli.main(standalone_mode=False))
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted; no half bundle is left", ERROR)
    except NO_ARGUMENTS as exc:
        exc.show()  # the help
        sys.exit(USAGE)
    except Exception as exc:
        if "--debug" in sys.argv[1:]:
            raise
        fail(*explain(exc))


class Outlet(io.FileIO):
    """A descriptor whose reader may go away, as in `| head -1`: the rest is discarded."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write; after an error, which is raised unless the reader has gone, discard the rest."""
        try:
            return super().write(data)
        except OSError as exc:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(exc, BrokenPipeError):
                return super().write(data)
            raise


def outlive_reader(stream: TextIO) -> TextIO:
    """The same stream, without an error when its reader goes away.

    So the command still finishes, writes its files, and returns the exit code of its work.
    """
    if not isinstance(stream, io.TextIOWrapper):  # None where the descriptor is closed
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Outlet(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def explain(exc: Exception) -> tuple[str, int]:
    """A message for users and the exit code."""
    if isinstance(exc, click.UsageError):
        where = exc.ctx.command_path if exc.ctx else "mobilesam-export"
        return f"{exc.format_message()} See `{where} --help`.", USAGE
    if isinstance(exc, click.ClickException):
        return exc.format_message(), ERROR
    if isinstance(exc, MobileSamExportError):
        return str(exc), exc.exit_code
    if isinstance(exc, ModuleNotFoundError):
        from mobilesam_export.packages import why_not_importable

        if reason := why_not_importable(exc):
            return reason, ERROR
    if isinstance(exc, OSError):  # all others are mapped where they happen
        return f"cannot write the result: {exc.strerror or exc}", ERROR
    # The last resort: a bug, or a machine out of memory.
    what = f"{type(exc).__name__}: {exc}"
    return f"unexpected: {what}; run `mobilesam-export --debug ...` for the traceback", ERROR


def fail(message: str, code: int) -> None:
    """Print one line to stderr and exit."""
    line = " ".join(message.split())
    click.echo(f"{click.style('Error:', fg='red')} {line}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
