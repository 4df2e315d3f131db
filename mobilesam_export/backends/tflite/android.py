"""TFLite files timed on an Android phone: adb and LiteRT's benchmark_model, which prints us."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobilesam_export.backends.device import DeviceSubject, DeviceTiming, fill_template
from mobilesam_export.target import GRAPHS

TEMPLATES = Path(__file__).with_name("device")
NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
COUNT = re.compile(rf"count=(\d+) .*?(?:min={NUMBER} .*?)?median={NUMBER}")
START = re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}")
DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")
SECTION = "# section: "


def write(subject: DeviceSubject, folder: Path) -> None:
    """Script, README and files; see `DeviceScript`."""
    values = {"SUBJECT": subject.name}
    for name in ("run.sh", "README.md"):
        fill_template(TEMPLATES / name, values, folder / name)
    for graph in GRAPHS:
        shutil.copyfile(subject.folder / f"{graph}.tflite", folder / f"{graph}.tflite")


def read(lines: Sequence[str]) -> Iterator[DeviceTiming]:
    """One timing per section of the log; see `DeviceScript`."""
    marks = [i for i, line in enumerate(lines) if line.startswith(SECTION)]
    for mark, end in zip(marks, [*marks[1:], len(lines)], strict=True):
        component, _, place = lines[mark].removeprefix(SECTION).partition(" ")
        if component in GRAPHS:
            yield _section("\n".join(lines[mark + 1 : end]), component, place)


def _section(log: str, component: str, place: str) -> DeviceTiming:
    """One run of benchmark_model: the first count is of the warm-up, the last of what counts."""
    counts, start, delegated = COUNT.findall(log), START.search(log), DELEGATED.search(log)
    runtime = "LiteRT benchmark_model"
    if delegated:
        done, of, delegate = delegated.groups()
        runtime += f", {done} of {of} ops by {delegate}"
    figures, reason = None, ""
    if len(counts) < 2 or start is None:
        reason = _first_error(log) or "benchmark_model printed no median; use a newer one"
    else:
        rounds, least, median = counts[-1]
        figures = (int(rounds), _ms(median), _ms(least) if least else None)
    return DeviceTiming(
        component=component,
        device=f"android-{place}",
        runtime=runtime,
        load_ms=(_ms(start[1]),) if start else (),
        cold_ms=(_ms(start[2]),) if start else (),
        figures=figures,
        unverified=reason,
    )


def _first_error(log: str) -> str:
    found = re.search(r"^.*(?:ERROR|Failed|failed|error:).*$", log, re.MULTILINE)
    return " ".join(found[0].split())[:200] if found else ""


def _ms(microseconds: str) -> float:
    return float(microseconds) / 1e3
