"""The loop around the clock, with a clock that tests turn themselves."""

import contextlib
import gc

import pytest

from mobilesam_export.benchmark.timing import (
    MIN_ROUNDS,
    Schedule,
    Series,
    Task,
    disable_malloc_trim,
    gc_disabled,
    run_rounds,
    time_call,
)


class FakeClock:
    """Seconds that pass only in the tasks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def task(self, name: str, seconds: float) -> Task:
        def run() -> str:
            self.now += seconds
            self.calls.append(name)
            return name

        return Task(run)


def test_a_call_is_timed_in_ms_and_keeps_its_result() -> None:
    clock = FakeClock()
    assert time_call(clock.task("a", 0.25).run, clock) == (250.0, "a")


def test_warmup_is_kept_apart_from_what_counts() -> None:
    clock, series = FakeClock(), dict[str, Series]()
    run_rounds({"a": clock.task("a", 0.5)}, Schedule(warmup=2, rounds=3), series, clock)
    assert series["a"].warmup_ms == [500.0] * 2
    assert series["a"].times_ms == [500.0] * 3


def test_tasks_take_turns_and_each_round_begins_with_another() -> None:
    clock = FakeClock()
    tasks = {name: clock.task(name, 1.0) for name in "abc"}
    run_rounds(tasks, Schedule(warmup=0, rounds=4), {}, clock)
    assert "".join(clock.calls) == "abc" "bca" "cab" "abc"  # fmt: skip


def test_no_round_is_begun_after_the_time_is_up() -> None:
    clock, series = FakeClock(), dict[str, Series]()
    schedule = Schedule(warmup=0, rounds=100, max_seconds=5.5)
    run_rounds({"a": clock.task("a", 1.0)}, schedule, series, clock)
    assert len(series["a"].times_ms) == 6


def test_a_slow_task_has_its_least_number_of_rounds_all_the_same() -> None:
    clock, series = FakeClock(), dict[str, Series]()
    schedule = Schedule(warmup=0, rounds=100, max_seconds=1)
    run_rounds({"a": clock.task("a", 60.0)}, schedule, series, clock)
    assert len(series["a"].times_ms) == MIN_ROUNDS


def test_what_was_measured_is_there_after_an_interruption() -> None:
    clock, series = FakeClock(), dict[str, Series]()

    def interrupted() -> None:
        if len(clock.calls) == 5:
            raise KeyboardInterrupt

    tasks = {"a": clock.task("a", 1.0), "b": Task(interrupted)}
    with pytest.raises(KeyboardInterrupt):
        run_rounds(tasks, Schedule(warmup=0, rounds=100), series, clock)
    assert len(series["a"].times_ms) == 5


def test_the_first_wrong_answer_is_kept() -> None:
    answers = iter(["", "too large", "too small"])
    task = Task(lambda: None, lambda _: next(answers))
    series: dict[str, Series] = {}
    run_rounds({"a": task}, Schedule(warmup=0, rounds=3), series)
    assert series["a"].fault == "too large"


def test_checks_are_not_timed() -> None:
    clock, series = FakeClock(), dict[str, Series]()
    task = clock.task("a", 1.0)

    def check(_: object) -> str:
        clock.now += 100
        return ""

    slow_check = Task(task.run, check)
    schedule = Schedule(warmup=0, rounds=3, max_seconds=1000)
    run_rounds({"a": slow_check}, schedule, series, clock)
    assert series["a"].times_ms == [1000.0] * 3


def test_the_garbage_collector_waits_and_comes_back() -> None:
    assert gc.isenabled()
    with contextlib.suppress(ZeroDivisionError), gc_disabled():
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled()


def test_keeping_freed_memory_says_whether_it_could() -> None:
    assert disable_malloc_trim() in (True, False)
