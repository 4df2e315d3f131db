"""How a bundle comes to its place, with every kind of fault at every single step of it.

The steps are audit events: each creation, opening, locking, renaming and removal of files.
"""

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mobilesam_export.bundle import staging, swap
from mobilesam_export.errors import BundleError, OutputError
from tests.fault_points import INTERRUPT, KILL, Action, Fail, at_event_number

FILES = ("encoder.onnx", "golden/mask.png")
ALL_STEPS = ("os.", "open", "shutil.", "tempfile.", "fcntl.", "ctypes.dlsym")
WRITING_STEPS = ("os.mkdir", "open", "os.rename", "tempfile.")
DONE, FAILED, NOT_REACHED, BUG = 0, 1, 2, 70
# Where the old bundle lies, and whether the file system can exchange two folders.
SITUATIONS = {
    "free": ("", True),
    "taken": ("out", True),
    "taken, no exchange": ("out", False),
    "set aside": (".out.old-killed", False),  # by an export that was killed between two renames
}


exchange = swap._exchange


def write(folder: Path, name: str) -> None:
    """A bundle whose files all hold its name."""
    (folder / "golden").mkdir(parents=True)
    for file in FILES:
        (folder / file).write_text(name)
    manifest = {"tool": staging.PROJECT, "files": dict.fromkeys(FILES)}
    (folder / staging.MANIFEST).write_text(json.dumps(manifest))


def name_at(place: Path) -> str:
    """Of the whole bundle at a place, "nothing", or what is damaged."""
    if not place.exists():
        return "nothing"
    try:
        files = json.loads((place / staging.MANIFEST).read_text())["files"]
        return " and ".join({(place / file).read_text() for file in files})
    except (OSError, ValueError) as exc:
        return f"damaged: {exc}"


def export(place: Path, name: str) -> None:
    with staging.staging(place) as stage:
        write(stage, name)
        staging.publish(stage, place)


class Stop(Exception):
    """Ends an export before it publishes."""


def fail_an_export(place: Path) -> None:
    with contextlib.suppress(Stop), staging.staging(place):
        raise Stop


FAULTS: dict[str, Callable[[Path], Action]] = {
    "SIGKILL": lambda _: KILL,
    "Ctrl-C": lambda _: INTERRUPT,
    "disk full": lambda _: Fail(errno.ENOSPC),
    "another export": lambda place: lambda: export(place, "other"),
    "another export that fails": lambda place: lambda: fail_an_export(place),
}


@dataclass(frozen=True)
class Outcome:
    """What became of an export with a fault.

    Attributes:
        code: exit code of its process, negative for a signal.
        place: what is at the bundle's place then; see `name_at`.
        repaired: what is there after the next export, which fails before it publishes.
        left: what lies beside it in the end.
    """

    code: int
    place: str
    repaired: str
    left: list[str]


Faults = Callable[..., list[Outcome]]


def export_with_fault(folder: Path, name: str, steps: tuple[str, ...], number: int) -> int:
    """Export in a forked process with a fault at one of its steps; the exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code, reached, place = BUG, [False], folder / "out"
    act = FAULTS[name](place)

    def action() -> None:
        reached[0] = True
        act()

    try:
        at_event_number(number, steps, action)
        export(place, "new")
        code = DONE if reached[0] else NOT_REACHED
    except (BundleError, OutputError, KeyboardInterrupt):
        code = FAILED
    except BaseException:  # noqa: BLE001 a child must not go on as its parent does
        traceback.print_exc()
    finally:
        os._exit(code)


def outcomes(situation: str, name: str, steps: tuple[str, ...]) -> list[Outcome]:
    """Of exports with a fault at the first step, the second, ... the last."""
    old, can_exchange = SITUATIONS[situation]
    swap._exchange = exchange if can_exchange else lambda first, second: errno.ENOSYS
    found: list[Outcome] = []
    for number in itertools.count():
        with tempfile.TemporaryDirectory() as parent:
            folder, place = Path(parent), Path(parent, "out")
            if old:
                write(folder / old, "old")
            code = export_with_fault(folder, name, steps, number)
            if code == NOT_REACHED:
                return found
            after = name_at(place)
            fail_an_export(place)
            left = sorted(path.name for path in folder.iterdir() if path != place)
            found.append(Outcome(code, after, name_at(place), left))
    raise AssertionError


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    """`outcomes` in a process with one thread, as one that forks must be."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def run(situation: str, name: str, steps: tuple[str, ...] = ALL_STEPS) -> list[Outcome]:
            found = pool.submit(outcomes, situation, name, steps).result()
            assert len(found) > 5
            return found

        yield run


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("Ctrl-C", FAILED)])
def test_ended_at_any_step_it_leaves_a_whole_bundle_and_the_next_export_removes_the_rest(
    faults: Faults, situation: str, name: str, code: int
) -> None:
    old, can_exchange = SITUATIONS[situation]
    found = faults(situation, name)
    for step, outcome in enumerate(found):
        assert outcome.code == code, step
        assert outcome.left == [], step
        if can_exchange or (name == "Ctrl-C" and old == "out"):
            assert outcome.place == outcome.repaired, step
    assert {outcome.repaired for outcome in found} == {"old" if old else "nothing", "new"}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_full_disk_at_any_step_changes_nothing(faults: Faults, situation: str) -> None:
    old, _ = SITUATIONS[situation]
    expected = {FAILED: "old" if old else "nothing", DONE: "new"}  # done: it can do without
    for step, outcome in enumerate(faults(situation, "disk full", WRITING_STEPS)):
        assert outcome.repaired == expected[outcome.code], step
        assert outcome.left == [], step


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", ["another export", "another export that fails"])
def test_two_exports_at_once_both_succeed(faults: Faults, situation: str, name: str) -> None:
    for step, outcome in enumerate(faults(situation, name)):
        assert outcome.code == DONE, step
        assert outcome.place in {"new", "other"}, step
        assert outcome.left == [], step
