"""Measurements as data, and the JSON file they are kept in."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mobilesam_export.benchmark.statistics import Latency, summarize
from mobilesam_export.errors import BudgetError

SCHEMA_VERSION = 1
KIND = "mobilesam-export benchmark"


@dataclass(frozen=True)
class Row:
    """One component of one subject on one device.

    Attributes:
        subject: the bundle's folder name, or "pytorch MODE:PRECISION".
        runtime: what ran it, with its version.
        device: "cpu", "cuda", "all", ... of the backend; "android" or "apple" if imported.
        component: see `subject`.
        machine: the device's name where it is not the machine that the file is about.
        load_ms: to make the file ready, once per fresh session; only encoder and decoder.
        cold_ms: the first run after each.
        warmup_ms: rounds that count for nothing.
        times_ms: rounds that count, in order.
        latency: figures of times_ms, or what the device told; None if there is nothing.
        answers: "right", or what was wrong, or "not checked".
        unverified: why it could not be run here.
    """

    subject: str
    runtime: str
    device: str
    component: str
    machine: str = ""
    load_ms: tuple[float, ...] = ()
    cold_ms: tuple[float, ...] = ()
    warmup_ms: tuple[float, ...] = ()
    times_ms: tuple[float, ...] = ()
    latency: Latency | None = None
    answers: str = "not checked"
    unverified: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the answers were not PyTorch's."""
        return self.answers not in ("right", "not checked")


@dataclass(frozen=True)
class Results:
    """Everything that one `benchmark` found.

    Attributes:
        rows: what was measured or could not be.
        machine: as `Machine.as_dict`.
        options: how it was measured.
        partial: it was interrupted.
        sections: what else is kept: "budget", "roofline", "bundles".
    """

    rows: tuple[Row, ...]
    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    partial: bool = False
    sections: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "partial": self.partial,
            "machine": dict(self.machine),
            "options": dict(self.options),
            "rows": [asdict(row) for row in self.rows],
            **self.sections,
        }


def row_latency(times_ms: Sequence[float]) -> Latency | None:
    """Figures, if there is anything to make them of."""
    return summarize(times_ms) if times_ms else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON file whole or not at all.

    Raises:
        BudgetError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write one text file whole or not at all.

    Raises:
        BudgetError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise BudgetError(f"cannot write {path}: {exc.strerror}") from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def check_output(path: Path | None, suffix: str) -> None:
    """Refuse, before minutes of measuring, a file that could not be written in the end.

    Raises:
        BudgetError: its suffix is another, its folder is not there, or it is a folder.
    """
    if path is None:
        return
    if path.suffix != suffix:
        raise BudgetError(f"{path} is to be a {suffix} file; give it a name that ends in {suffix}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BudgetError(f"{path} cannot be written: no such folder, or it is one")


def read_results(path: Path) -> dict[str, Any]:
    """The content of a file that `benchmark --save` has written.

    Raises:
        BudgetError: it cannot be read or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BudgetError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise BudgetError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise BudgetError(f"{path} was not written by `benchmark --save`")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise BudgetError(
            f"{path} has version {found.get('schema_version')} of the file of measurements; "
            f"this program reads version {SCHEMA_VERSION}: measure again or upgrade"
        )
    return found
