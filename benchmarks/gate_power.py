"""How often `compare` cries wolf, and how often it finds a real slowdown.

`python -m benchmarks.gate_power real FOLDER COMPONENT [RUNS]` runs the decision of `compare` for
real, in turns A/A (a bundle against itself) and against the same file with a delay of 15 % of each
run's own time, and appends every pair to `benchmarks/results/gate_pairs.json`, with the load of the
machine. `python -m benchmarks.gate_power simulate` draws blocks of those A/A pairs, with A and B
swapped at random, for 200 decisions on equal files and 200 with B 15 % slower, and writes
`benchmarks/results/gate_power.json` with the outcome of the real runs beside it.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.timing import disable_malloc_trim
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.compare.comparison import Pairs
from mobilesam_export.compare.decision import Block, Decision, Rule, Verdict, decide
from mobilesam_export.compare.pairs import (
    Open,
    Plan,
    compare_times,
    component_inputs,
    opener,
)
from mobilesam_export.contract import Array
from mobilesam_export.files import write_json
from mobilesam_export.session import Session

RESULTS = Path(__file__).parent / "results"
PAIRS, POWER = RESULTS / "gate_pairs.json", RESULTS / "gate_power.json"
SLOWDOWN = 1.15
SIMULATIONS = 200
THREADS = 1  # the default of `compare`
PLAN = Plan(max_seconds=150.0)


def delayed(load: Open, share: float) -> Open:
    """The same file, but every run takes `share` of its own time longer."""

    def open_delayed() -> Session:
        session = load()

        def run(inputs: dict[str, Array]) -> dict[str, Array]:
            start = time.perf_counter()
            outputs = session.run(inputs)
            end = time.perf_counter()
            while time.perf_counter() - end < share * (end - start):
                pass
            return outputs

        return replace(session, run=run)

    return open_delayed


def real_run(opened: Bundle, component: str, slowdown: float) -> dict[str, Any]:
    """One decision on real pairs."""
    load = opener(opened, component, "cpu", THREADS)
    candidate = delayed(load, slowdown - 1) if slowdown > 1 else load
    pairs, before, start = Pairs(), os.getloadavg()[0], time.perf_counter()
    decision = compare_times((load, candidate), component_inputs(opened, component), PLAN, pairs)
    return {
        "component": component,
        "image_size": opened.contract.image_size,
        "slowdown": slowdown,
        "seconds": round(time.perf_counter() - start, 1),
        "load_average": round((before + os.getloadavg()[0]) / 2, 2),
        **_outcome(decision),
        "blocks_ms": [[[round(t, 3) for t in pair] for pair in block] for block in pairs.blocks],
    }


def _outcome(decision: Decision) -> dict[str, Any]:
    kept = {"verdict", "ratio", "low", "high", "pairs", "blocks"}
    values = {name: value for name, value in asdict(decision).items() if name in kept}
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}


def real(folder: Path, component: str, runs: int) -> None:
    """Run and append, A/A and slowed in turns."""
    disable_malloc_trim()
    opened = open_bundle(folder)
    for number in range(runs):
        for slowdown in (1.0, SLOWDOWN):
            run = real_run(opened, component, slowdown)
            kept = json.loads(PAIRS.read_text()) if PAIRS.exists() else {"runs": []}
            kept["machine"] = this_machine().as_dict()
            kept["runs"].append(run)
            write_json(PAIRS, kept)
            shown = {name: value for name, value in run.items() if name != "blocks_ms"}
            print(number, shown, flush=True)


def simulated(
    blocks: Sequence[Block], slowdown: float, random: np.random.Generator, rule: Rule
) -> Decision:
    """One decision on blocks drawn from recorded ones, as `compare_times` would take it."""
    drawn: list[Block] = []
    while True:
        block = blocks[int(random.integers(len(blocks)))]
        swap = random.random() < 0.5  # equal files: either may be called the candidate
        drawn.append([((b, a) if swap else (a, b)) for a, b in block])
        slowed = [[(a, b * slowdown) for a, b in item] for item in drawn]
        decision = decide(slowed, rule)
        full = decision.pairs + PLAN.pairs_per_block > rule.max_pairs
        if decision.verdict is not Verdict.INCONCLUSIVE or full:
            return decision


def simulate() -> dict[str, Any]:
    """Both kinds of decision, for each component of the recorded runs."""
    runs = json.loads(PAIRS.read_text())["runs"]
    result: dict[str, Any] = {
        "machine": json.loads(PAIRS.read_text())["machine"],
        "threads": THREADS,
        "rule": asdict(PLAN.rule),
        "components": {},
    }
    for key in sorted({(run["component"], run["image_size"]) for run in runs}):
        mine = [run for run in runs if (run["component"], run["image_size"]) == key]
        blocks = [b for run in mine if run["slowdown"] == 1 for b in run["blocks_ms"]]
        result["components"][f"{key[0]} at {key[1]}"] = {
            "recorded_blocks": len(blocks),
            "load_average": _range([run["load_average"] for run in mine]),
            "seconds": _range([run["seconds"] for run in mine]),
            **{
                name: {
                    "real": _verdicts([r for r in mine if r["slowdown"] == slowdown]),
                    "simulated": _simulations(blocks, slowdown),
                }
                for name, slowdown in (("a_a", 1.0), ("slowdown_15", SLOWDOWN))
            },
        }
    return result


def _simulations(blocks: Sequence[Block], slowdown: float) -> dict[str, Any]:
    random = np.random.default_rng(0)
    rule = replace(PLAN.rule, resamples=1000)
    decisions = [simulated(blocks, slowdown, random, rule) for _ in range(SIMULATIONS)]
    return _verdicts([_outcome(decision) for decision in decisions])


def _verdicts(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counts = Counter(str(o["verdict"]) for o in outcomes)
    return {
        "decisions": len(outcomes),
        **{str(v): counts[str(v)] for v in Verdict if v is not Verdict.NOT_COMPARABLE},
        "ratios": _range([o["ratio"] for o in outcomes]),
        "pairs": _range([o["pairs"] for o in outcomes]),
    }


def _range(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    least, median, most = (round(float(v), 4) for v in np.percentile(values, [0, 50, 100]))
    return {"min": least, "median": median, "max": most}


def main(arguments: Sequence[str]) -> None:
    """Do what the first argument says."""
    if arguments[:1] == ["real"] and len(arguments) in (3, 4):
        real(Path(arguments[1]), arguments[2], int(arguments[3]) if arguments[3:] else 10)
    elif list(arguments) == ["simulate"]:
        result = simulate()
        write_json(POWER, result)
        print(json.dumps(result["components"], indent=1))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
