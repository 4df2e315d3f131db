"""The clock: call something many times, in turns with others, and keep every time.

What makes times steady is done around them, never between start and stop: the garbage collector
waits, the allocator keeps its memory, and results are checked after the clock has stopped.
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
    """Times of one thing, in ms.

    Attributes:
        warmup_ms: first runs, which count for nothing.
        times_ms: all others.
        wrong: what was wrong with a result; "" as long as nothing was.
    """

    warmup_ms: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    wrong: str = ""


@dataclass(frozen=True)
class Task:
    """Something to be timed.

    Attributes:
        run: does it and returns the result.
        check: a result -> what is wrong with it, or "".
    """

    run: Callable[[], Any]
    check: Callable[[Any], str] = lambda _: ""


@dataclass(frozen=True)
class Schedule:
    """How often things are run.

    Attributes:
        warmup: rounds that count for nothing, 0 or more.
        rounds: rounds that count, 1 or more.
        max_seconds: after which no new round is begun, once MIN_ROUNDS are done.
    """

    warmup: int = 2
    rounds: int = 30
    max_seconds: float = 30.0


MIN_ROUNDS = 3


def time_call(run: Callable[[], Any], clock: Clock = time.perf_counter) -> tuple[float, Any]:
    """One call: how long it took in ms, and its result."""
    start = clock()
    result = run()
    return (clock() - start) * 1e3, result


def run_rounds(
    tasks: Mapping[str, Task],
    schedule: Schedule,
    series: dict[str, Series],
    clock: Clock = time.perf_counter,
) -> None:
    """Time every task once per round, each round beginning with another one.

    Args:
        tasks: by name.
        schedule: how often.
        series: filled as times come, so that they are there whatever ends this.
        clock: of seconds, for tests.
    """
    names = list(tasks)
    for name in names:
        series.setdefault(name, Series())
    start = clock()
    for number in range(schedule.warmup + schedule.rounds):
        done = number - schedule.warmup
        if done >= MIN_ROUNDS and clock() - start > schedule.max_seconds:
            return
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            elapsed_ms, result = time_call(tasks[name].run, clock)
            times = series[name].warmup_ms if done < 0 else series[name].times_ms
            times.append(elapsed_ms)
            series[name].wrong = series[name].wrong or tasks[name].check(result)


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Keep Python's garbage collector from running between start and stop of a clock."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed, for this process: mapping it again takes longer than a run.

    Returns:
        Whether that was possible; other C libraries have no such switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(M_MMAP_MAX, 0))
