"""The clock: call something many times, in turns with others, and keep every time.

Measures against noise surround the timed calls, never between start and stop: garbage collection
is off, the allocator keeps its memory, and results are checked after the clock has stopped.
"""

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]  # seconds
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's mallopt(3)


@dataclass
class Series:
    """Times of one task, in ms.

    Attributes:
        warmup_ms: warm-up runs, not counted.
        times_ms: all others.
        fault: of the first wrong result; "" if there was none.
    """

    warmup_ms: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    fault: str = ""


@dataclass(frozen=True)
class Task:
    """A call to time.

    Attributes:
        run: the call; returns its result.
        check: a result -> its fault, or "".
    """

    run: Callable[[], Any]
    check: Callable[[Any], str] = lambda _: ""


@dataclass(frozen=True)
class Schedule:
    """Number of warm-up and counted rounds, and a time limit.

    Attributes:
        warmup: rounds that are not counted, 0 or more.
        rounds: counted rounds, 1 or more.
        max_seconds: no new round begins after it, once MIN_ROUNDS are done.
    """

    warmup: int = 2
    rounds: int = 30
    max_seconds: float = 30.0


MIN_ROUNDS = 3


def time_call(run: Callable[[], Any], clock: Clock = time.perf_counter) -> tuple[float, Any]:
    """Time one call: its duration in ms, and its result."""
    start = clock()
    result = run()
    return (clock() - start) * 1e3, result


def run_rounds(
    tasks: Mapping[str, Task],
    schedule: Schedule,
    series: dict[str, Series],
    clock: Clock = time.perf_counter,
) -> None:
    """Time every task once per round, rotating their order from round to round.

    Args:
        tasks: by name.
        schedule: how often.
        series: filled as times come, so that an interruption loses none.
        clock: of seconds, for tests.
    """
    names = list(tasks)
    for name in names:
        series.setdefault(name, Series())
    start = clock()
    for index in range(schedule.warmup + schedule.rounds):
        counted = index - schedule.warmup
        if counted >= MIN_ROUNDS and clock() - start > schedule.max_seconds:
            return
        offset = index % len(names)
        for name in names[offset:] + names[:offset]:
            elapsed_ms, result = time_call(tasks[name].run, clock)
            times = series[name].warmup_ms if counted < 0 else series[name].times_ms
            times.append(elapsed_ms)
            series[name].fault = series[name].fault or tasks[name].check(result)


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable Python's garbage collector, so that it never runs while a clock runs."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def disable_malloc_trim() -> bool:
    """Stop glibc from returning freed memory, for this process: mapping it again outlasts a run.

    Returns:
        Whether it did; other C libraries have no such switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(M_MMAP_MAX, 0))
