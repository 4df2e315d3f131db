"""Run the installed program as a user does, and hold what it says to the house rule for errors.

The rule: progress lines, then exactly one line that starts with "Error:", nothing on stdout, the
right exit code, and nothing new or changed on the disk.

Importing torch takes two seconds and coremltools five, so that the many cases that need them run in
processes forked from one that has imported them already (`warm`). It is the same `main()` with the
same streams; `cold` starts the program from nothing.
"""

import hashlib
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kept_conversions import keep_conversions

ERROR, USAGE, FAILED = 1, 2, 3
TIMEOUT_S = 1800  # for a program that hangs, on however busy a machine
PROGRESS = re.compile(
    r"(Loading the (checkpoint \(.*\)|bundle)|Encoding the image"
    r"|Converting the (encoder|decoder|decoder_batch|prepare|decoder_prepared)"
    r"|Asking PyTorch for the expected answers|Verifying the files against PyTorch"
    r"|Computing them in pessimistic float16|Comparing the rectangle with the square"
    r"|Checking the bundle(s' hashes|'s hashes)|Collecting calibration samples|Comparing masks"
    r"|Fitting a narrower encoder|Rounding layer after layer"
    r"|Timing .*|Counting .*|Loading (.* on .*|the checkpoint for PyTorch))"
)
# What torch and ONNX Runtime keep for themselves between runs.
THIRD_PARTY = re.compile(r"tmp/torchinductor_.*|tmp/\.ses|cache(/Microsoft(/.*)?)?")
FOREIGN = ("MOBILESAM_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
TMP = "tmp"  # the program's temporary folder, so that a snapshot shows what is left there
# `python -m mobilesam_export` after a line that sets up a fault; see tests/fault_points.py.
WITH_FAULT = """
import runpy, sys
sys.path.append({root!r})
from tests.fault_points import *
{fault}
runpy.run_module("mobilesam_export", run_name="__main__", alter_sys=True)
"""
ROOT = Path(__file__).parents[1]
MODULE = [sys.executable, "-m", "mobilesam_export"]
SCRIPT = [str(Path(sys.executable).with_name("mobilesam-export"))]  # as pip installed it

warm_processes = multiprocessing.get_context("forkserver")
warm_processes.set_forkserver_preload(
    [
        *(
            "mobilesam_export.segment",
            "tests.kept_conversions",
            "mobilesam_export.backends.onnx.convert",
            "mobilesam_export.backends.coreml.convert",
            "mobilesam_export.backends.tflite.convert",
            "onnxruntime",
            "pooch",
        ),
        "mobilesam_export.backends.coreml.passes",  # and with it coremltools
        # What torch.export and torch.onnx import when they are first called, in three seconds.
        *("torch._dynamo", "torch._functorch.partitioners", "torch._inductor.decomposition"),
        *("torch.onnx._internal.exporter._core", "tests.onnx_registry"),
    ]
)


@dataclass(frozen=True)
class Result:
    """What a run has said."""

    code: int
    stdout: str
    stderr: str


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would change results; cache and temporary files go below `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(FOREIGN)}
    (folder / TMP).mkdir(exist_ok=True)
    places = {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / TMP)}
    return {**kept, **places, "NO_PROXY": "127.0.0.1", **(extra or {})}


def cold(
    folder: Path, arguments: Sequence[object], *, script: bool = False, fault: str = ""
) -> Result:
    """Run the program in `folder` to its end, as `python -m`, by its script or with a fault."""
    program = SCRIPT if script else MODULE
    if fault:
        program = [sys.executable, "-c", WITH_FAULT.format(root=str(ROOT), fault=fault)]
    done = subprocess.run(
        [*program, *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def warm(
    folder: Path,
    arguments: Sequence[object],
    env: Mapping[str, str] | None = None,
    file_limit: int = -1,
    before: Sequence[Callable[[], None]] = (),
) -> Result:
    """The same in a forked process.

    Args:
        folder: working folder.
        arguments: of the command line.
        env: environment variables to add.
        file_limit: size in bytes that no file may pass; -1: none.
        before: what is called in the process before the program; see tests/fault_points.py.
    """
    with tempfile.TemporaryDirectory() as outside:
        streams = Path(outside, "stdout"), Path(outside, "stderr")
        process = warm_processes.Process(
            target=_main,
            args=(
                [*map(str, arguments)],
                folder,
                environment(folder, env),
                file_limit,
                streams,
                before,
            ),
        )
        process.start()
        process.join(TIMEOUT_S)
        code = process.exitcode
        process.kill()
        assert code is not None, f"not done after {TIMEOUT_S} s: {arguments}"
        return Result(code, *(stream.read_text() for stream in streams))


def _main(
    arguments: list[str],
    folder: Path,
    env: dict[str, str],
    file_limit: int,
    streams: tuple[Path, Path],
    before: Sequence[Callable[[], None]],
) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if file_limit >= 0:  # of what a converter writes too
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    else:
        keep_conversions()
    sys.argv = ["mobilesam-export", *arguments]
    for prepare in before:
        prepare()
    from mobilesam_export.__main__ import main

    main()


def snapshot(folder: Path) -> dict[str, str]:
    """What lies below a folder, hidden or not: kind and content of everything of ours."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {k: _identity(path) for k, path in found.items() if not THIRD_PARTY.fullmatch(k)}


def _identity(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "folder"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def error_line(stderr: str) -> str:
    """The one line of an error, after the progress lines; fails if there is anything else."""
    assert "Traceback" not in stderr, stderr
    lines = stderr.splitlines()
    errors = [line for line in lines if not PROGRESS.fullmatch(line)]
    assert len(errors) == 1, f"expected one line of error, found:\n{stderr}"
    assert lines[-1] == errors[0], f"progress after the error:\n{stderr}"
    assert errors[0].startswith("Error: "), stderr
    assert not errors[0].startswith("Error: unexpected"), stderr
    return errors[0]


def assert_refused(result: Result, code: int, phrases: Sequence[str]) -> None:
    """A run has failed by the rule, in a message with `phrases`."""
    message = error_line(result.stderr)
    assert result.code == code, f"exit {result.code} instead of {code}: {message}"
    assert result.stdout == "", f"an error is no result: {result.stdout}"
    for phrase in phrases:
        assert phrase in message, f"{phrase!r} is not in: {message}"


def refused(
    folder: Path,
    arguments: Sequence[object],
    code: int,
    phrases: Sequence[str],
    env: Mapping[str, str] | None = None,
    file_limit: int = -1,
) -> None:
    """Run `warm` what must fail by the rule, and look for traces in `folder`."""
    before = snapshot(folder)
    assert_refused(warm(folder, arguments, env, file_limit), code, phrases)
    assert_same(folder, before)


def refused_cold(
    folder: Path,
    arguments: Sequence[object],
    code: int,
    phrases: Sequence[str],
    *,
    script: bool = False,
) -> None:
    """The same, started from nothing."""
    before = snapshot(folder)
    assert_refused(cold(folder, arguments, script=script), code, phrases)
    assert_same(folder, before)


def assert_same(folder: Path, before: dict[str, str]) -> None:
    """Nothing below `folder` has come, gone or changed but for the empty temporary folder."""
    expected, after = {**before, TMP: "folder"}, snapshot(folder)
    changed = sorted(k for k in {*expected, *after} if expected.get(k) != after.get(k))
    assert not changed, f"new, gone or changed: {changed}"
