"""TFLite files timed on an Android phone: adb and LiteRT's benchmark_model, which prints us."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobilesam_export.backends.device import (
    MOST_SHOWN,
    DeviceSubject,
    DeviceTiming,
    fill_template,
    how_it_ended,
    sections,
    subject_values,
)
from mobilesam_export.target import GRAPHS

TEMPLATES = Path(__file__).with_name("device")
NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
COUNT = re.compile(rf"count=(\d+) .*?(?:min={NUMBER} .*?)?median={NUMBER}")
# TFLite's summary, and that of LiteRT 2.x.
INIT = re.compile(
    r"Inference timings in us: Init: (?P<us>[\d.e+]+)|Model initialization: +(?P<ms>[\d.e+]+) ms"
)
FIRST = re.compile(r"First inference: (?P<us>[\d.e+]+)|Warmup \(first\): +(?P<ms>[\d.e+]+) ms")
REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")
CPU_DELEGATE = "xnnpack"  # in the name of the delegate that runs on the CPU
ALL_ON_GPU = "will be completely executed by the delegate"
NOT_ON_GPU = re.compile(
    r"^.*(?:will not be executed by the delegate|will be partially executed"
    r"|\b0 GPU delegate kernels"
    r"|[Ff]ailed to (?:apply|load|register|create) .*(?:delegate|accelerator)"
    r"|accelerator.* (?:not|cannot be|could not be) (?:loaded|registered)).*$",
    re.MULTILINE,
)
ERROR = re.compile("ERROR|[Ff]ailed|error:|CANNOT LINK")
TOOL = "benchmark_model"


def write(subject: DeviceSubject, folder: Path) -> None:
    """Script, README and files; see `DeviceScript`."""
    values = subject_values(subject)
    for name in ("run.sh", "README.md"):
        fill_template(TEMPLATES / name, values, folder / name)
    for graph in GRAPHS:
        shutil.copyfile(subject.folder / f"{graph}.tflite", folder / f"{graph}.tflite")


def read(lines: Sequence[str]) -> Iterator[DeviceTiming]:
    """One timing per section of the log; see `DeviceScript`."""
    for component, place, log in sections(lines):
        if component in GRAPHS:
            yield _section(log, component, place)


def _section(log: str, component: str, place: str) -> DeviceTiming:
    """One run of benchmark_model: the first count is of the warm-up, the last of what counts."""
    counts, init, first = COUNT.findall(log), INIT.search(log), FIRST.search(log)
    figures, reason = None, gpu_fault(log) if place == "gpu" else ""
    if len(counts) < 2:
        reason = _failure(log)
    elif not reason:
        rounds, least, median = counts[-1]
        figures = (int(rounds), _ms(median), _ms(least) if least else None)
    return DeviceTiming(
        component=component,
        device=f"android-{place}",
        runtime=f"LiteRT {TOOL}",
        load_ms=_start_ms(init),
        cold_ms=_start_ms(first),
        figures=figures,
        unverified=reason,
        delegate=_delegates(log),
    )


def gpu_fault(log: str) -> str:
    """Why the time of a section is not the GPU's; "" if all of the graph ran on it.

    benchmark_model falls back to the CPU without a failure, and prints a time all the same.
    """
    if found := NOT_ON_GPU.search(log):
        return f"not all of it ran on the GPU: {' '.join(found[0].split())[:MOST_SHOWN]}"
    replaced = [(int(n), int(of), name) for n, of, name in REPLACED.findall(log)]
    on_gpu = [item for item in replaced if CPU_DELEGATE not in item[2].lower()]
    elsewhere = [item for item in replaced if item[0] and item not in on_gpu]
    if any(count < of for count, of, _ in on_gpu) or (on_gpu and elsewhere):
        return f"not all of it ran on the GPU: {_delegates(log)}"
    if not on_gpu and ALL_ON_GPU not in log:
        ran = f": {_delegates(log)}" if replaced else ""
        return f"the log does not say that the GPU ran anything{ran}"
    return ""


def _delegates(log: str) -> str:
    """What each delegate took, for instance "864 of 864 ops by LITERT_CL"."""
    lines = dict.fromkeys(f"{n} of {of} ops by {name}" for n, of, name in REPLACED.findall(log))
    return ", ".join(lines)


def _failure(log: str) -> str:
    """Why there is no number."""
    if log.count("count=") > len(COUNT.findall(log)):
        return f"{TOOL} printed no median; use a newer one"
    return how_it_ended(log, TOOL, ERROR)


def _start_ms(found: re.Match[str] | None) -> tuple[float, ...]:
    """Milliseconds of one of the two summaries: the older prints microseconds."""
    if found is None:
        return ()
    return (_ms(found["us"]) if found["us"] else float(found["ms"]),)


def _ms(microseconds: str) -> float:
    return float(microseconds) / 1e3
