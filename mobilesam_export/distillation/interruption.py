"""Ctrl-C between two steps, so that a state that is saved is never in the middle of one."""

import contextlib
import signal
import threading
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
    """The first Ctrl-C or SIGTERM in the block is noted; a second one interrupts at once.

    Only the main thread hears of signals; Ray's workers train in another one.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

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
