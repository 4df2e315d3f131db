"""Progress on stderr, so that stdout holds results only."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TimeRemainingColumn,
)

# Bound now: `quiet` redirects sys.stderr while a converter runs and a spinner must go on.
console = Console(file=sys.stderr, highlight=False)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Show what is being done while it is done; one line per step where there is no terminal."""
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        console.print(text, soft_wrap=True)
        yield


def note(text: str) -> None:
    """One line on something that the user should know and that stops nothing."""
    console.print(f"note: {text}", soft_wrap=True, markup=False)


class BytesBar:
    """A progress bar with the four members that pooch asks of one."""

    def __init__(self, bar: Progress, name: str, size: int) -> None:
        self._bar = bar
        self._task = bar.add_task(name, total=size)

    @property
    def total(self) -> float:
        """Bytes expected."""
        return self._bar.tasks[0].total or 0

    @total.setter
    def total(self, size: float) -> None:
        self._bar.update(self._task, total=size)

    def update(self, size: int) -> None:
        """Note that `size` more bytes have come."""
        self._bar.advance(self._task, size)

    def reset(self) -> None:
        """Start again from nothing."""
        self._bar.reset(self._task)

    def close(self) -> None:
        """Pooch is done; the context manager ends the display."""


def _display(amount: ProgressColumn) -> Progress:
    """A bar between its description and `amount`, on stderr, gone when it is done."""
    return Progress(
        "[progress.description]{task.description}",
        BarColumn(),
        amount,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def bytes_bar(name: str, size: int) -> Iterator[BytesBar]:
    """A bar for a download of `size` bytes, on stderr, gone when it is done."""
    with _display(DownloadColumn()) as bar:
        yield BytesBar(bar, name, size)


@contextlib.contextmanager
def items_bar(text: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """A bar over `total` things of which `done` are done; call what it gives after each."""
    with _display(MofNCompleteColumn()) as bar:
        task = bar.add_task(text, total=total, completed=done)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def described_bar(total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
    """The same over steps; what it gives is called with what to say of each."""
    with _display(MofNCompleteColumn()) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda text: bar.update(task, advance=1, description=text)
