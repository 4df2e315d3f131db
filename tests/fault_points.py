"""Faults at named points of the program: where it gets there, it is killed, interrupted or fails.

Nothing waits for a point to come by, so a fault cannot miss. The functions that set one up are for
`warm(..., before=...)` and for programs of `python -c`; they change the process they are called in,
which is to end afterwards.

Points are Python's audit events (https://docs.python.org/3/library/audit_events.html), which are
raised before what they are named after is done, lines of progress, and calls of functions.
"""

import importlib
import itertools
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Action = Callable[[], None]


class Send:
    """A signal to the process itself, as from `kill` or Ctrl-C."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __call__(self) -> None:
        if signal.getsignal(self.number) == signal.SIG_IGN:  # a shell's background jobs, of SIGINT
            signal.signal(self.number, signal.default_int_handler)
        signal.raise_signal(self.number)


INTERRUPT, TERMINATE, KILL = map(Send, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))


class Fail:
    """An error of the operating system."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def at_event(name: str, pattern: str, action: Action) -> None:
    """Act before the first audit event `name` with an argument in which `pattern` is found."""
    pending = [action]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if pending and event == name and any(re.search(pattern, str(a)) for a in arguments):
            pending.pop()()

    sys.addaudithook(hook)


def at_event_number(number: int, prefixes: tuple[str, ...], action: Action) -> None:
    """Act before an audit event, counted from 0 among those whose names begin so."""
    count, acting = itertools.count(), [False]

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(prefixes) and not acting[0] and next(count) == number:
            acting[0] = True  # events of the action itself do not count
            try:
                action()
            finally:
                acting[0] = False

    sys.addaudithook(hook)


def at_line(text: str, action: Action) -> None:
    """Act when the program has printed the first line of progress with `text`."""
    from mobilesam_export.progress import console

    print_line, pending = console.print, [action]

    def print_and_act(*objects: Any, **options: Any) -> None:
        print_line(*objects, **options)
        if pending and text in " ".join(map(str, objects)):
            pending.pop()()

    console.print = print_and_act  # type: ignore[method-assign]


def at_call(function: str, action: Action, number: int = 0) -> None:
    """Act when a call of a function, counted from 0, has returned.

    Args:
        function: "module:name", where the name is looked up when it is called.
        action: what happens.
        number: of the call.
    """
    module_name, _, name = function.partition(":")
    module = importlib.import_module(module_name)
    call, count = getattr(module, name), itertools.count()

    def call_and_act(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if next(count) == number:
            action()
        return result

    setattr(module, name, call_and_act)


def hide(module: str) -> None:
    """A package as if it were not installed."""
    sys.modules[module] = None  # type: ignore[assignment] # what find_spec and import look at first


def reuse_files(bundle: Path) -> None:
    """Take a bundle's files in place of converting: for tests of what is done with files."""
    from mobilesam_export import backends
    from mobilesam_export.bundle.manifest import open_bundle

    def copy(_: object, graph: Any, conversion: object, path: Path) -> None:
        shutil.copyfile(bundle / path.name, path)

    backend = backends.get_backend(open_bundle(bundle).backend)
    type(backend).convert = copy  # type: ignore[assignment]
