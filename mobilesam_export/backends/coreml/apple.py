"""Core ML packages timed on a Mac or an iPhone: a Swift package whose XCTest prints seconds."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobilesam_export.backends.device import (
    DeviceSubject,
    DeviceTiming,
    fill_template,
    subject_values,
)
from mobilesam_export.target import GRAPHS

TEMPLATES = Path(__file__).with_name("device")
# What Swift packages call the systems that a minimum deployment target belongs to.
SYSTEMS = {"iOS16": ("16", "13"), "iOS17": ("17", "14"), "iOS18": ("18", "15")}
NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
CASE = re.compile(r"Test Case '-\[\S+ test_(\w+?)_(\w+)\]' (started|measured)")
VALUES = re.compile(r"measured \[Clock Monotonic Time, s\] .*?values: \[([^\]]*)\]")
COLD = re.compile(rf"# load: {NUMBER} cold: {NUMBER}")
ANSWERS = re.compile(r"# answers: (.+)")
UNITS = {"all": "all", "cpu": "cpu", "cpuAndGPU": "cpu+gpu", "cpuAndNeuralEngine": "cpu+ne"}


def write(subject: DeviceSubject, folder: Path) -> None:
    """Swift package, script, README and golden vectors; see `DeviceScript`."""
    ios, macos = SYSTEMS[str(subject.convert["minimum_deployment_target"])]
    values = {
        **subject_values(subject),
        "IOS": ios,
        "MACOS": macos,
        "WIDTH": str(subject.contract.size.width),
        "HEIGHT": str(subject.contract.size.height),
        "POINTS": str(subject.contract.points),
        "PSNR": f"{subject.tolerance.embedding_psnr_db:.1f}",
        "LOGITS": f"{subject.logits_limit:.6f}",
    }
    tests = folder / "Tests"
    (tests / "Models").mkdir(parents=True)
    for name in ("Package.swift", "run.sh", "README.md"):
        fill_template(TEMPLATES / name, values, folder / name)
    fill_template(TEMPLATES / "LatencyTests.swift", values, tests / "LatencyTests.swift")
    for graph in GRAPHS:
        name = f"{graph}.mlpackage"
        shutil.copytree(subject.folder / name, tests / "Models" / name)
    golden = subject.folder / "golden" / "landscape"
    (tests / "Golden" / "click").mkdir(parents=True)
    for name in ("image.uint8", "image_embeddings.float32"):
        shutil.copyfile(golden / "encoder" / name, tests / "Golden" / name)
    for path in (golden / "click").glob("*.float32"):
        shutil.copyfile(path, tests / "Golden" / "click" / path.name)


def read(lines: Sequence[str]) -> Iterator[DeviceTiming]:
    """One timing per test case, so per file and compute unit; see `DeviceScript`."""
    cases: dict[tuple[str, str], dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in lines:
        if (case := CASE.search(line)) and case[1] in GRAPHS:
            current = cases.setdefault((case[1], case[2]), {})
        for name, pattern in (("values", VALUES), ("cold", COLD), ("answers", ANSWERS)):
            if found := pattern.search(line):
                current[name] = " ".join(found.groups())
    for (component, units), seen in cases.items():
        times = tuple(value * 1e3 for value in _seconds(seen.get("values", "")))
        load, _, cold = seen.get("cold", "").partition(" ")
        yield DeviceTiming(
            component=component,
            device=f"apple-{UNITS.get(units, units)}",
            runtime="Core ML, XCTest",
            load_ms=(float(load) * 1e3,) if load else (),
            cold_ms=(float(cold) * 1e3,) if cold else (),
            times_ms=times,
            answers=seen.get("answers", "not checked").removeprefix("wrong: "),
            unverified="" if times else "the test measured nothing; see its log",
        )


def _seconds(values: str) -> Iterator[float]:
    """XCTest's list of seconds, "0.019000, 0.018000", or with decimal commas, "0,019000, 0,018000".

    Raises:
        ValueError: it is no such list.
    """
    for value in values.split(", "):
        if not value.strip():
            continue
        try:
            yield float(value.strip().replace(",", "."))
        except ValueError as exc:
            raise ValueError(f"{value!r} in the values of XCTest is no number") from exc
