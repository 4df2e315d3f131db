"""Exports that are interrupted, killed or run twice at once: the place holds a whole bundle.

Here whole exports, through the command line; tests/test_staging.py has each step of the last part.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from mobilesam_export.bundle.manifest import open_bundle
from tests.cli_runner import (
    ERROR,
    TIMEOUT_S,
    Result,
    assert_same,
    cold,
    error_line,
    snapshot,
    warm,
    warm_processes,
)
from tests.conftest import STUDENT, WEIGHTS
from tests.fault_points import INTERRUPT, KILL, TERMINATE, at_call, at_event, at_line

NOT_CONVERTED = f"{STUDENT}:7"  # in no test: so there is no conversion to be reused
FAST = ("-c", WEIGHTS, "--image-size", 256, "--no-verify")
# Points of an export; `partial` because processes are handed what they are to call.
LOADING = partial(at_line, "Loading the checkpoint")
CONVERTING = partial(at_line, "Converting the encoder")
TRACED = partial(at_call, "torch.export:export")
ENCODER_BEGUN = partial(at_event, "open", r"\.tmp-.*/encoder\.onnx")
MANIFEST_BEGUN = partial(at_event, "open", r"\.tmp-.*/manifest\.json")
REPLACED = partial(at_call, "mobilesam_export.bundle.swap:exchange")
Setup = Callable[[], None]


def copy_files(bundle: Path) -> None:
    """Replace the conversion, which takes longest, by a copy of a bundle's files."""
    from mobilesam_export.backends import get_backend

    def copy(graph: object, conversion: object, path: Path) -> None:
        shutil.copy(bundle / path.name, path)

    setattr(get_backend("onnx"), "convert", copy)  # noqa: B010 mypy knows no member of a module


def export(folder: Path, *before: Setup, out: str = "out", checkpoint: str = WEIGHTS) -> Result:
    """An `onnx` export to `out`."""
    return warm(folder, ["onnx", *FAST, "-c", checkpoint, "-o", out], before=before)


def assert_interrupted(result: Result) -> None:
    assert result.code == ERROR
    lines = filter(None, result.stderr.splitlines())  # Click ends the one that shows ^C
    assert "interrupted; no half bundle is left" in error_line("\n".join(lines))
    assert result.stdout == ""


def source_at(place: Path) -> str:
    """Which weights the bundle at a place is made of: tells the old one from the new one."""
    return open_bundle(place).provenance.source


def stages(folder: Path) -> list[Path]:
    """Temporary folders of exports."""
    return sorted(folder.glob(".*.tmp-*"))


@pytest.fixture
def old(onnx_bundle: Path, tmp_path: Path) -> Path:
    """A place that holds a bundle of `seeded:0`."""
    return Path(shutil.copytree(onnx_bundle, tmp_path / "out"))


# Ctrl-C, and SIGTERM as from an operating system that shuts down.


@pytest.mark.parametrize(
    ("fault", "checkpoint"),
    [
        (partial(LOADING, INTERRUPT), WEIGHTS),
        (partial(CONVERTING, INTERRUPT), WEIGHTS),
        (partial(CONVERTING, TERMINATE), WEIGHTS),
        (partial(TRACED, INTERRUPT), NOT_CONVERTED),
        (partial(ENCODER_BEGUN, INTERRUPT), WEIGHTS),
    ],
)
def test_an_interrupted_export_changes_nothing(
    fault: Setup, checkpoint: str, old: Path, tmp_path: Path
) -> None:
    before = snapshot(tmp_path)
    assert_interrupted(export(tmp_path, fault, checkpoint=checkpoint))
    assert_same(tmp_path, before)


@pytest.mark.parametrize("module", ["torch._utils", "torch.nn"])
def test_ctrl_c_during_imports(module: str, tmp_path: Path) -> None:
    fault = f"at_event('import', '^{module}$', INTERRUPT)"
    assert_interrupted(cold(tmp_path, ["onnx", *FAST, "-o", "out"], fault=fault))


# SIGKILL.


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (partial(ENCODER_BEGUN, KILL), WEIGHTS),
        (partial(MANIFEST_BEGUN, KILL), WEIGHTS),
        (partial(REPLACED, KILL), NOT_CONVERTED),
    ],
    ids=["encoder begun", "manifest begun", "replaced"],
)
def test_a_killed_export_leaves_a_whole_bundle_and_the_next_one_removes_the_rest(
    fault: Setup, expected: str, old: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    conversion = partial(copy_files, onnx_bundle)
    result = export(tmp_path, conversion, fault, checkpoint=NOT_CONVERTED)
    assert result.code == -signal.SIGKILL
    assert source_at(old) == expected
    assert len(stages(tmp_path)) == 1
    fail_an_export(tmp_path)
    assert stages(tmp_path) == []
    assert source_at(old) == expected


def test_an_export_killed_during_the_conversion_leaves_the_old_bundle(
    old: Path, tmp_path: Path
) -> None:
    killed = export(tmp_path, partial(TRACED, KILL), checkpoint=NOT_CONVERTED)
    assert killed.code == -signal.SIGKILL
    assert source_at(old) == WEIGHTS


# Two at once.


def meet(barrier: Barrier) -> None:
    """Wait for the other process before a bundle is put in its place."""
    from mobilesam_export.bundle import staging

    publish = staging.publish

    def meet_and_publish(stage: Path, folder: Path) -> None:
        barrier.wait(TIMEOUT_S)
        publish(stage, folder)

    staging.publish = meet_and_publish


def test_two_exports_to_one_place(old: Path, onnx_bundle: Path, tmp_path: Path) -> None:
    sources = (f"{STUDENT}:3", f"{STUDENT}:4")
    setup = partial(copy_files, onnx_bundle), partial(meet, warm_processes.Barrier(2))
    with ThreadPoolExecutor(2) as threads:
        results = threads.map(lambda name: export(tmp_path, *setup, checkpoint=name), sources)
    assert [result.code for result in results] == [0, 0]
    assert source_at(old) in sources
    assert stages(tmp_path) == []


# What killed exports leave is removed by the next one, even by one that fails.


def fail_an_export(folder: Path, out: str = "out") -> None:
    """An export that has its temporary folder when it fails."""
    assert_interrupted(export(folder, partial(CONVERTING, INTERRUPT), out=out))


def leftover(folder: Path, name: str = ".out.tmp-killed") -> Path:
    """A temporary folder of an export that was killed."""
    stage = folder / name
    stage.mkdir()
    (stage / "encoder.onnx").write_bytes(b"half a file")
    return stage


@contextmanager
def locked(stage: Path) -> Iterator[None]:
    """Held as by a living export."""
    lock = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def test_only_leftovers_of_the_same_bundle_are_removed(tmp_path: Path) -> None:
    dead, living = leftover(tmp_path), leftover(tmp_path, ".out.tmp-living")
    other = leftover(tmp_path, ".other.tmp-killed")
    with locked(living):
        fail_an_export(tmp_path)
    assert stages(tmp_path) == sorted([living, other])
    assert not dead.exists()


def test_the_name_of_a_place_is_no_pattern(tmp_path: Path) -> None:
    stage, other = leftover(tmp_path, ".o[u]t.tmp-killed"), leftover(tmp_path)
    fail_an_export(tmp_path, "o[u]t")
    assert stages(tmp_path) == [other]
    assert not stage.exists()
