"""Timing on a real device: what a backend gives to `device-script`, and reads back from it.

A person runs the script on a phone or a Mac; its results are a text file of lines, the tool's own
log between lines of ours that begin with "# ".
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from mobilesam_export.contract import Contract
from mobilesam_export.target import Tolerance

SECTION = "# section: "  # then component and processor: what follows is the log of one run
MOST_SHOWN = 200  # characters of a line of the log
PREFIX = "@"  # on both sides of a name in a template: $ is the shell's and { is Swift's


@dataclass(frozen=True)
class DeviceSubject:
    """The bundle that a script times.

    Attributes:
        name: of the bundle's folder; results carry it.
        folder: the bundle, with `golden/` in it.
        contract: of its files.
        tolerance: how far answers on the device may be off.
        logits_limit: the same of a mask logit, as the manifest has it.
        convert: the [convert] table that the files were written with.
    """

    name: str
    folder: Path
    contract: Contract
    tolerance: Tolerance
    logits_limit: float
    convert: Mapping[str, object]


@dataclass(frozen=True)
class DeviceTiming:
    """What a device measured of one file.

    Attributes:
        component: "encoder" or "decoder".
        device: platform and processor, for instance "android-gpu".
        runtime: what ran the file.
        delegate: what computed its ops, in the log's words; "" where the log does not say.
        load_ms: to make the file ready, once per fresh session.
        cold_ms: the first run after each.
        times_ms: runs that count, in order; empty where the tool prints figures only.
        figures: number of runs, their median and their minimum in ms, in place of `times_ms`.
        answers: "right", "not checked", or what was wrong.
        unverified: why there is no time; "" if there is one.
    """

    component: str
    device: str
    runtime: str
    load_ms: tuple[float, ...] = ()
    cold_ms: tuple[float, ...] = ()
    times_ms: tuple[float, ...] = ()
    figures: tuple[int, float, float | None] | None = None
    answers: str = "not checked"
    unverified: str = ""
    delegate: str = ""


@dataclass(frozen=True)
class DeviceScript:
    """How files of a backend are timed on a device.

    Attributes:
        platform: what results name in their line "# platform: ".
        write: puts script, README and files of a bundle into an empty folder.
        read: lines of the results -> timings, one per file and processor.
    """

    platform: str
    write: Callable[[DeviceSubject, Path], None]
    read: Callable[[Sequence[str]], Iterator[DeviceTiming]]


def sections(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Component, processor and log of every run in the results of a script that marks them."""
    marks = [i for i, line in enumerate(lines) if line.startswith(SECTION)]
    for mark, end in itertools.pairwise([*marks, len(lines)]):
        component, _, place = lines[mark].removeprefix(SECTION).partition(" ")
        yield component, place, "\n".join(lines[mark + 1 : end])


def how_it_ended(log: str, tool: str, error: re.Pattern[str]) -> str:
    """Why a log has no number: its first line about an error, and its last line."""
    texts = [line for line in log.splitlines() if any(map(str.isalnum, line))]  # not rules of "="
    lines = [" ".join(line.split())[:MOST_SHOWN] for line in texts]
    if not lines:
        return f"{tool} printed nothing"
    first = next((line for line in lines if error.search(line)), lines[-1])
    return first if first == lines[-1] else f"{first}; the log ends with: {lines[-1]}"


def subject_values(subject: DeviceSubject) -> dict[str, str]:
    """The bundle's name for a template: SUBJECT for texts, QUOTED_SUBJECT for a shell.

    A folder may have any name; control characters become spaces, so that it stays one line.
    """
    name = "".join(char if char.isprintable() else " " for char in subject.name)
    return {"QUOTED_SUBJECT": quote(name), "SUBJECT": name}


def fill_template(template: Path, values: Mapping[str, str], path: Path) -> None:
    """Write a template with its @NAME@s replaced; a .sh becomes executable.

    Args:
        template: the file to read.
        values: by NAME.
        path: the file to write.
    """
    text = template.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{PREFIX}{key}{PREFIX}", value)
    path.write_text(text, encoding="utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)
