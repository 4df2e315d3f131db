"""What a device script wrote -> rows of the same table as everything measured here.

The file is the log of LiteRT's benchmark_model or of XCTest, with lines of our own that begin
with "# ". benchmark_model prints figures in us, XCTest every time in s.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mobilesam_export.benchmark.row import NOT_CHECKED, Row, row_latency
from mobilesam_export.benchmark.statistics import Latency
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.errors import MeasurementError

FIRST_LINE = "# mobilesam-export device results 1"
NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
COUNT = re.compile(rf"count=(\d+) .*?(?:min={NUMBER} .*?)?median={NUMBER}")
START = re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}")
DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")
CASE = re.compile(r"Test Case '-\[\S+ test_(\w+?)_(\w+)\]' (started|measured)")
VALUES = re.compile(r"measured \[Clock Monotonic Time, s\] .*?values: \[([^\]]*)\]")
COLD = re.compile(rf"# load: {NUMBER} cold: {NUMBER}")
ANSWERS = re.compile(r"# answers: (.+)")
UNITS = {"all": "all", "cpu": "cpu", "cpuAndGPU": "cpu+gpu", "cpuAndNeuralEngine": "cpu+ne"}


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
    readers = {"android": _android, "apple": _apple}
    if head.get("platform") not in readers or "subject" not in head:
        raise MeasurementError(f"{path} is damaged: it names no platform or no subject")
    rows = list(readers[head["platform"]](lines, head["subject"], head.get("device", "unknown")))
    if not rows:
        raise MeasurementError(f"{path} has no measurement in it; run the device script again")
    return rows


def _android(lines: list[str], subject: str, machine: str) -> Iterator[Row]:
    marks = [i for i, line in enumerate(lines) if line.startswith("# section: ")]
    for mark, end in zip(marks, [*marks[1:], len(lines)], strict=True):
        component, _, place = lines[mark].removeprefix("# section: ").partition(" ")
        if component in GRAPHS:
            yield _section("\n".join(lines[mark + 1 : end]), (subject, component, place, machine))


def _section(log: str, where: tuple[str, str, str, str]) -> Row:
    """One run of benchmark_model: the first count is of the warm-up, the last of what counts."""
    subject, component, place, machine = where
    counts, start, delegated = COUNT.findall(log), START.search(log), DELEGATED.search(log)
    runtime = "LiteRT benchmark_model"
    if delegated:
        done, of, delegate = delegated.groups()
        runtime += f", {done} of {of} ops by {delegate}"
    latency, reason = None, ""
    if len(counts) < 2 or start is None:
        reason = _first_error(log) or "benchmark_model printed no median; use a newer one"
    else:
        rounds, least, median = counts[-1]
        least_ms = _us(least) if least else None
        latency = Latency(int(rounds), _us(median), None, None, least_ms, None)
    return Row(
        subject=subject,
        runtime=runtime,
        device=f"android-{place}",
        component=component,
        machine=machine,
        load_ms=(_us(start[1]),) if start else (),
        cold_ms=(_us(start[2]),) if start else (),
        latency=latency,
        unverified=reason,
    )


def _first_error(log: str) -> str:
    found = re.search(r"^.*(?:ERROR|Failed|failed|error:).*$", log, re.MULTILINE)
    return " ".join(found[0].split())[:200] if found else ""


def _us(text: str) -> float:
    return float(text) / 1e3


def _apple(lines: list[str], subject: str, machine: str) -> Iterator[Row]:
    cases: dict[tuple[str, str], dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in lines:
        if (case := CASE.search(line)) and case[1] in GRAPHS:
            current = cases.setdefault((case[1], case[2]), {})
        for name, pattern in (("values", VALUES), ("cold", COLD), ("answers", ANSWERS)):
            if found := pattern.search(line):
                current[name] = " ".join(found.groups())
    for (component, units), seen in cases.items():
        times = tuple(float(v) * 1e3 for v in seen.get("values", "").split(",") if v.strip())
        load, _, cold = seen.get("cold", "").partition(" ")
        yield Row(
            subject=subject,
            runtime="Core ML, XCTest",
            device=f"apple-{UNITS.get(units, units)}",
            component=component,
            machine=machine,
            load_ms=(float(load) * 1e3,) if load else (),
            cold_ms=(float(cold) * 1e3,) if cold else (),
            times_ms=times,
            latency=row_latency(times),
            answers=seen.get("answers", NOT_CHECKED).removeprefix("wrong: "),
            unverified="" if times else "the test measured nothing; see its log",
        )
