"""Ctrl-C between two steps, so that a state that is saved is never in the middle of one."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether the user has asked to stop."""

    received: bool = False


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[StopRequest]:
    """The first Ctrl-C or SIGTERM in the block is noted; a second one interrupts at once."""
    stop = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.received:
            signal.default_int_handler(number, frame)
        stop.received = True

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
