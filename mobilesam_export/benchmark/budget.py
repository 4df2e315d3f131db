"""Budgets: limits for components on a device -> passed, failed or unverified.

A budget is `paper` or a TOML of one's own:

    device = "cpu"              a device of `benchmark`: cpu, cuda, all, cpu+ne, android, apple, ...
    device_name = "*EPYC*"      optional: the hardware, as `benchmark` names it, with wildcards

    [median_ms]                 and, or instead, [p90_ms]
    encoder = 400
    click_to_mask = 100

    [peak]                      optional, for the roofline of this device
    gflops = 300
    gb_per_s = 40
"""

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mobilesam_export.benchmark.row import Row
from mobilesam_export.benchmark.subject import COMPONENTS
from mobilesam_export.errors import BudgetError
from mobilesam_export.verification.status import Status

STATISTICS = ("median_ms", "p90_ms")
KEYS = ("device", "device_name", *STATISTICS, "peak")
PEAKS = ("gflops", "gb_per_s")


@dataclass(frozen=True)
class Budget:
    """Limits on one device.

    Attributes:
        name: for people.
        device: rows of other devices are not judged.
        limits: statistic -> component -> ms.
        device_name: pattern of the hardware's name.
        peak: "gflops" (1e9 additions and multiplications per second) and "gb_per_s" (1e9 bytes).
    """

    name: str
    device: str
    limits: Mapping[str, Mapping[str, float]]
    device_name: str = "*"
    peak: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """One limit applied to one subject; `found_ms` is None where nothing was measured."""

    status: Status
    component: str
    statistic: str
    limit_ms: float
    subject: str = ""
    found_ms: float | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        return {"verdict": values.pop("status").verdict, **values}


# Zhang et al., Faster Segment Anything, 2023 (arXiv:2306.14289), and the tables of its repository:
# 8 ms for the image encoder and 4 ms for the mask decoder on a single GPU.
PAPER = Budget("paper", "cuda", {"median_ms": {"encoder": 8.0, "decoder": 4.0}})


def load_budget(name: str) -> Budget:
    """`paper`, or a TOML by its path.

    Raises:
        BudgetError: it cannot be read, or a key or value is wrong.
    """
    if name == PAPER.name:
        return PAPER
    path = Path(name)
    if path.suffix != ".toml":
        raise BudgetError(f"no budget {name!r}; expected {PAPER.name} or a path to a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BudgetError(f"cannot read budget {path}: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BudgetError(f"budget {path} is not valid TOML: {exc}") from exc
    return _parse(path, table)


def _parse(path: Path, table: dict[str, Any]) -> Budget:
    label = f"budget {path.name}"
    for key in table:
        if key not in KEYS:
            raise BudgetError(f"{label}: unknown key {key!r}; known keys: {', '.join(KEYS)}")
    for key in ("device", "device_name"):
        if not isinstance(table.get(key, ""), str):
            raise BudgetError(f"{label}: {key} is {table[key]!r}; expected a name in quotes")
    if not table.get("device"):
        raise BudgetError(f"{label}: missing key 'device', such as device = \"cpu\"")
    limits = {
        name: _numbers(f"{label}, {name}", table[name], COMPONENTS)
        for name in STATISTICS
        if name in table
    }
    if not any(limits.values()):
        raise BudgetError(f"{label}: no limit; expected [median_ms] with encoder = 400 or the like")
    peak = _numbers(f"{label}, peak", table.get("peak", {}), PEAKS)
    if peak and set(peak) != set(PEAKS):
        raise BudgetError(f"{label}: [peak] takes both {' and '.join(PEAKS)}")
    return Budget(path.stem, table["device"], limits, table.get("device_name", "*"), peak)


def _numbers(label: str, table: object, names: Sequence[str]) -> dict[str, float]:
    if not isinstance(table, dict):
        raise BudgetError(f"{label}: expected a table, found {table!r}")
    for name, value in table.items():
        if name not in names:
            raise BudgetError(f"{label}: unknown component {name!r}; there are: {', '.join(names)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < float("inf"):
            raise BudgetError(f"{label}: {name} is {value!r}; expected a number above 0")
    return {name: float(value) for name, value in table.items()}


def judge(budget: Budget, rows: Sequence[Row], hardware: Sequence[str]) -> list[Judgement]:
    """Judge every row of the budget's device by its limits.

    Args:
        budget: with at least one limit.
        rows: of one `benchmark`.
        hardware: names of this machine's CPU and GPU.

    Returns:
        For each limit one judgement per row, or one that says why there is none.
    """
    return [
        judgement
        for statistic, limits in budget.limits.items()
        for component, limit_ms in limits.items()
        for judgement in _judge_limit(budget, statistic, component, limit_ms, rows, hardware)
    ]


def _judge_limit(
    budget: Budget,
    statistic: str,
    component: str,
    limit_ms: float,
    rows: Sequence[Row],
    hardware: Sequence[str],
) -> list[Judgement]:
    def of_device(row: Row) -> bool:
        names = [row.machine] if row.machine else hardware
        named = any(fnmatch.fnmatch(name, budget.device_name) for name in names)
        return row.device == budget.device and row.component == component and named

    judgements = []
    for row in filter(of_device, rows):
        value = getattr(row.latency, statistic) if row.latency else None
        if value is None:
            reason = row.unverified or f"no {statistic} of it"
            status = Status.UNVERIFIED
        elif row.wrong:  # a fast wrong answer keeps no budget
            status, reason = Status.FAILED, row.answers
        else:
            status = Status.PASSED if value <= limit_ms else Status.FAILED
            reason = ""
        judgements.append(
            Judgement(status, component, statistic, limit_ms, row.subject, value, reason)
        )
    reason_for_none = f"{component} was not measured on {budget.device}"
    if budget.device == "cuda" and not any(hardware[1:]):
        reason_for_none = "no GPU here"
    elif budget.device_name != "*":
        reason_for_none += f", {budget.device_name}"
    return judgements or [
        Judgement(Status.UNVERIFIED, component, statistic, limit_ms, reason=reason_for_none)
    ]
