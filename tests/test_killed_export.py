"""Exports that are interrupted, killed or run twice at once: the place holds a whole bundle.

Where a kill must hit one exact step, a script takes the steps of an export and ends itself
there, as SIGKILL would: no `finally`, no exit handlers.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mobilesam_export.bundle.manifest import Bundle, open_bundle
from tests.cli_runner import (
    ERROR,
    assert_same,
    error_line,
    interrupt,
    snapshot,
    start,
    wait_for_line,
    warm,
)

FAST = ("-c", "seeded", "--image-size", 256, "--no-verify")
# The program with the conversion, which takes longest, replaced by a copy of a bundle's files.
CONVERTED = """
import shutil, sys
from pathlib import Path
from mobilesam_export.backends.onnx import backend as onnx

bundle = Path(sys.argv.pop(1))
onnx.convert = lambda graph, conversion, path: shutil.copy(bundle / path.name, path)
from mobilesam_export.__main__ import main

main()
"""


def salt(bundle: Bundle) -> str:
    """Which weights a bundle is made of: tells the old one from the new one."""
    return bundle.provenance.source


@pytest.fixture
def old(onnx_bundle: Path, tmp_path: Path) -> Path:
    """A place that holds a bundle of `seeded:0`."""
    return Path(shutil.copytree(onnx_bundle, tmp_path / "out"))


def start_converted(bundle: Path, folder: Path, name: str) -> subprocess.Popen[str]:
    """An export of seeded weights to `out` that has nothing to convert."""
    program = [sys.executable, "-c", CONVERTED, str(bundle)]
    return start(folder, ["onnx", *FAST, "-c", name, "-o", "out"], program=program)


def hidden(folder: Path) -> list[Path]:
    """Temporary folders of exports."""
    return sorted(folder.glob(".*.tmp-*"))


# Ctrl-C.


@pytest.mark.parametrize(
    ("line", "after_s"),
    [("Loading the checkpoint", 0.2), ("Converting the encoder", 0), ("Converting the", 2.0)],
)
def test_ctrl_c_changes_nothing(line: str, after_s: float, old: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    process = start(tmp_path, ["onnx", *FAST, "-o", old.name])
    said = wait_for_line(process, line)
    time.sleep(after_s)
    interrupt(process)
    stdout, rest = process.communicate(timeout=60)
    assert process.returncode == ERROR
    lines = filter(None, (said + rest).splitlines())  # Click ends the one that shows ^C
    assert "interrupted; no half bundle is left" in error_line("\n".join(lines))
    assert stdout == ""
    assert_same(tmp_path, before)


@pytest.mark.parametrize("module", ["torch._utils", "torch.nn"])
def test_ctrl_c_during_imports(module: str, tmp_path: Path) -> None:
    imports = {"PYTHONPROFILEIMPORTTIME": "1"}  # a line for each import that is done
    process = start(tmp_path, ["onnx", *FAST, "-o", "out"], imports)
    wait_for_line(process, f" {module}\n")
    interrupt(process)
    _, rest = process.communicate(timeout=60)
    said = [line for line in rest.splitlines() if line and not line.startswith("import time:")]
    assert "interrupted; no half bundle is left" in error_line("\n".join(said))
    assert process.returncode == ERROR


# SIGKILL during a whole export over an old bundle.


def manifest_begun(process: subprocess.Popen[str], folder: Path) -> None:
    wait_until(lambda: any(stage.joinpath("manifest.json").exists() for stage in hidden(folder)))


def replaced(process: subprocess.Popen[str], folder: Path) -> None:
    place = folder / "out"
    inode = place.stat().st_ino
    wait_until(lambda: place.stat().st_ino != inode)


def wait_until(happened: Callable[[], bool]) -> None:
    """Look so often that the very next steps are still to come."""
    limit = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.0005)


def test_export_killed_during_the_conversion_leaves_the_old_bundle(
    old: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, ["onnx", *FAST, "-c", "seeded:7", "-o", "out"])
    wait_for_line(process, "Converting the encoder")
    time.sleep(1.5)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert salt(open_bundle(old)) == "seeded:0"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(manifest_begun, {"seeded:0", "seeded:7"}), (replaced, {"seeded:7"})],
)
def test_killed_export_leaves_a_whole_bundle(
    moment: Callable[[subprocess.Popen[str], Path], None],
    expected: set[str],
    old: Path,
    onnx_bundle: Path,
    tmp_path: Path,
) -> None:
    process = start_converted(onnx_bundle, tmp_path, "seeded:7")
    moment(process, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGKILL, 0)  # 0: it was done before the kill
    assert salt(open_bundle(old)) in expected


def test_two_exports_to_one_place(old: Path, onnx_bundle: Path, tmp_path: Path) -> None:
    salts = ("seeded:3", "seeded:4")
    both = [start_converted(onnx_bundle, tmp_path, name) for name in salts]
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert salt(open_bundle(old)) in salts
    assert hidden(tmp_path) == []


# The steps of putting a bundle in its place, one by one.

STEPS = """
import os, shutil, sys
from pathlib import Path
from mobilesam_export.bundle import manifest, swap

source, place, step, exchange = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
if exchange == "none":  # a file system that cannot exchange
    swap._exchange = lambda first, second: 38
with_rename, with_rmtree, renames = Path.rename, shutil.rmtree, []

def rename(self, target):
    if step == f"before rename {len(renames)}":
        os._exit(9)
    renames.append(target)
    return with_rename(self, target)

def rmtree(path, *args, **kwargs):
    if step == "before removal":
        os._exit(9)
    with_rmtree(path, *args, **kwargs)

with staging.staging(place) as stage:
    shutil.copytree(source, stage, dirs_exist_ok=True)
    Path.rename, shutil.rmtree = rename, rmtree
    staging.publish(stage, place)
    if step == "after all":
        os._exit(9)
"""


def killed_at(step: str, source: Path, place: Path, exchange: str = "as it is") -> int:
    """Publish a copy of `source` at `place`, killed at a step; the exit code (9: killed)."""
    line = [sys.executable, "-c", STEPS, str(source), str(place), step, exchange]
    return subprocess.run(line, check=False, timeout=60).returncode


@pytest.fixture
def new(onnx_sam_bundle: Path) -> Path:
    """A bundle of another target, to be put in the place of the old one."""
    return onnx_sam_bundle


@pytest.mark.parametrize(
    ("step", "target"),
    [
        ("before rename 0", "onnx"),
        ("before removal", "onnx-sam"),
        ("after all", "onnx-sam"),
    ],
)
def test_killed_between_two_steps(step: str, target: str, old: Path, new: Path) -> None:
    assert killed_at(step, new, old) == 9
    assert open_bundle(old).target == target


@pytest.mark.parametrize(
    ("step", "target"),
    [
        ("before rename 1", "onnx"),
        ("before rename 3", "onnx-sam"),
        ("before removal", "onnx-sam"),
    ],
)
def test_killed_where_folders_cannot_be_exchanged(
    step: str, target: str, old: Path, new: Path
) -> None:
    assert killed_at(step, new, old, exchange="none") == 9
    assert open_bundle(old).target == target


def test_old_bundle_set_aside_by_a_killed_export_survives_the_next_one(
    old: Path, new: Path, tmp_path: Path
) -> None:
    """Killed between the two renames, and then the next export fails: the old one is left."""
    assert killed_at("before rename 2", new, old, exchange="none") == 9
    for path in tmp_path.iterdir():  # long ago
        os.utime(path, (time.time() - 3600,) * 2)
    fail_an_export(tmp_path)
    whole = [path.parent for path in tmp_path.glob("*/manifest.json")]
    whole += [path.parent for path in tmp_path.glob(".*/manifest.json")]
    assert "onnx" in {open_bundle(folder).target for folder in whole}


# What killed exports leave is removed by the next one, even by one that fails.


def fail_an_export(folder: Path, out: str = "out") -> None:
    """An export that has its temporary folder when it fails."""
    target = Path(__file__).parents[1] / "targets" / "onnx.toml"
    text = target.read_text(encoding="utf-8").replace('"PointTokens", "PixelsInput"', '"Nothing"')
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    arguments = ["run", "mine.toml", *FAST, "-r", "float16", "-o", out]
    result = warm(folder, arguments)
    assert "names no module of the encoder" in error_line(result.stderr)
    (folder / "mine.toml").unlink()


def leftover(folder: Path, name: str = ".out.tmp-killed", age_s: float = 3600) -> Path:
    """A temporary folder of an export that was killed."""
    stage = folder / name
    stage.mkdir()
    (stage / "encoder.onnx").write_bytes(b"half a file")
    os.utime(stage, (time.time() - age_s,) * 2)
    return stage


def test_leftover_is_removed(tmp_path: Path) -> None:
    stage = leftover(tmp_path)
    fail_an_export(tmp_path)
    assert not stage.exists()


def test_fresh_leftover_is_left_alone(tmp_path: Path) -> None:
    """Its owner may be about to lock it."""
    stage = leftover(tmp_path, age_s=5)
    fail_an_export(tmp_path)
    assert (stage / "encoder.onnx").exists()


def test_leftover_of_another_bundle_is_left_alone(tmp_path: Path) -> None:
    stage = leftover(tmp_path, ".other.tmp-killed")
    fail_an_export(tmp_path)
    assert (stage / "encoder.onnx").exists()


@contextmanager
def locked(stage: Path) -> Iterator[None]:
    """Held as by a living export."""
    lock = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def test_folder_of_a_living_export_is_left_alone(tmp_path: Path) -> None:
    stage = leftover(tmp_path)
    with locked(stage):
        fail_an_export(tmp_path)
    assert (stage / "encoder.onnx").exists()


def test_name_of_a_place_is_no_pattern(tmp_path: Path) -> None:
    stage, other = leftover(tmp_path, ".o[u]t.tmp-killed"), leftover(tmp_path)
    fail_an_export(tmp_path, "o[u]t")
    assert not stage.exists()
    assert (other / "encoder.onnx").exists()
