"""Results of a device script -> rows of the same table as the measurements on this machine.

The file is the log of the tool that timed, with lines of ours that begin with "# ". Its backend
reads the log; here are the lines that all of them have.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mobilesam_export.backends import backend_names, get_backend
from mobilesam_export.backends.device import DeviceScript, DeviceTiming
from mobilesam_export.benchmark.row import Row, row_latency
from mobilesam_export.benchmark.statistics import Latency
from mobilesam_export.errors import MeasurementError, first_line

FIRST_LINE = "# mobilesam-export device results 1"
HEAD = re.compile(r"^# (platform|subject|device|threads): (.+)$", re.MULTILINE)


def import_rows(path: Path) -> list[Row]:
    """Read a file of results.

    Raises:
        MeasurementError: it cannot be read, or no device script wrote it.
    """
    try:
        lines = _text(path.read_bytes()).splitlines()
    except OSError as exc:
        raise MeasurementError(f"cannot read {path}: {exc.strerror}") from exc
    if not lines or lines[0].strip() != FIRST_LINE:
        raise MeasurementError(
            f"{path} has no results of a device script: its first line is not {FIRST_LINE!r}"
        )
    rows = [row for block in _blocks(lines) for row in _block_rows(path, block)]
    if not rows:
        raise MeasurementError(f"{path} has no measurement in it; run the device script again")
    return rows


def _text(content: bytes) -> str:
    """UTF-8, or what a byte order mark says: PowerShell and editors on Windows write one."""
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8-sig", errors="replace")


def _blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """The runs of a device script in a file: results of several devices may be joined into one."""
    starts = [index for index, line in enumerate(lines) if line.strip() == FIRST_LINE]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start:end]


def _block_rows(path: Path, lines: Sequence[str]) -> Iterator[Row]:
    """Rows of one run.

    Raises:
        MeasurementError: no head, two heads, or a log that is not the tool's.
    """
    found = HEAD.findall("\n".join(lines))
    head = dict(found)
    if len(head) < len(found):
        raise MeasurementError(
            f"{path} is damaged: it names two devices in one run; put the line {FIRST_LINE!r} "
            "before each, or import them as two files"
        )
    script = device_scripts().get(head.get("platform", ""))
    if script is None or "subject" not in head:
        raise MeasurementError(f"{path} is damaged: it names no platform or no subject")
    threads = head.get("threads", "")
    try:
        for timing in script.read(lines):
            row = _row(timing, head["subject"], head.get("device", "unknown"))
            yield replace(row, threads=int(threads) if threads.isdecimal() else 0)
    except ValueError as exc:
        raise MeasurementError(f"{path} is damaged: {first_line(exc)}") from exc


def device_scripts() -> dict[str, DeviceScript]:
    """The scripts of all installed backends by platform."""
    scripts = (get_backend(name).device_script() for name in backend_names())
    return {script.platform: script for script in scripts if script is not None}


def _row(timing: DeviceTiming, subject: str, machine: str) -> Row:
    latency = row_latency(timing.times_ms)
    if timing.figures is not None:
        rounds, median_ms, min_ms = timing.figures
        latency = Latency(rounds, median_ms, None, None, min_ms, None)
    return Row(
        subject=subject,
        runtime=timing.runtime,
        device=timing.device,
        component=timing.component,
        machine=machine,
        delegate=timing.delegate,
        load_ms=timing.load_ms,
        cold_ms=timing.cold_ms,
        times_ms=timing.times_ms,
        latency=latency,
        answers=timing.answers,
        unverified=timing.unverified,
    )
