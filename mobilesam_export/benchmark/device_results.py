"""Results of a device script -> rows of the same table as the measurements on this machine.

The file is the log of the tool that timed, with lines of ours that begin with "# ". Its backend
reads the log; here are the lines that all of them have.
"""

import re
from pathlib import Path

from mobilesam_export.backends import backend_names, get_backend
from mobilesam_export.backends.device import DeviceScript, DeviceTiming
from mobilesam_export.benchmark.row import Row, row_latency
from mobilesam_export.benchmark.statistics import Latency
from mobilesam_export.errors import MeasurementError

FIRST_LINE = "# mobilesam-export device results 1"


def import_rows(path: Path) -> list[Row]:
    """Read a file of results.

    Raises:
        MeasurementError: it cannot be read, or no device script wrote it.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as exc:
        raise MeasurementError(f"cannot read {path}: {exc.strerror}") from exc
    if not lines or lines[0].strip() != FIRST_LINE:
        raise MeasurementError(
            f"{path} has no results of a device script: its first line is not {FIRST_LINE!r}"
        )
    head = dict(re.findall(r"^# (platform|subject|device): (.+)$", "\n".join(lines), re.MULTILINE))
    script = device_scripts().get(head.get("platform", ""))
    if script is None or "subject" not in head:
        raise MeasurementError(f"{path} is damaged: it names no platform or no subject")
    machine = head.get("device", "unknown")
    rows = [_row(timing, head["subject"], machine) for timing in script.read(lines)]
    if not rows:
        raise MeasurementError(f"{path} has no measurement in it; run the device script again")
    return rows


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
        load_ms=timing.load_ms,
        cold_ms=timing.cold_ms,
        times_ms=timing.times_ms,
        latency=latency,
        answers=timing.answers,
        unverified=timing.unverified,
    )
