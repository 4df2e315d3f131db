"""MobileSAM on a GPU: latency, answers, throughput, share of the roofline, and SAM beside it.

`python -m benchmarks.gpu BUNDLE...` takes `onnx` bundles at 1024: the first for PyTorch's
checkpoint and golden vectors, and all of them for ONNX Runtime where it has CUDA. It writes
`benchmarks/results/gpu.json`. Without a GPU it says "unverified: no GPU here" and writes nothing.

Each subject has a process of its own: they compile at the same time and are timed one after the
other. One that fails, or is not done within `--minutes`, is named with its reason and the rest
counts. The limits are medians at batch 1, with masks of IoU 0.99 and more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_subject import TIMING_LOCK, WORK, Work
from mobilesam_export.benchmark.figures import bundle_reports
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.roofline import gpu_peak
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.files import write_json

RESULT = Path(__file__).parent / "results" / "gpu.json"
LIMITS_MS = {"encoder": 0.6, "decoder": 0.2, "click_to_mask": 1.5}
Figures = dict[str, Any]


def judged(rows: Sequence[Figures]) -> Figures:
    """The fastest right answer for each limit.

    Args:
        rows: with "subject", "component", "median_ms" and "wrong".
    """
    found = {}
    for component, limit_ms in LIMITS_MS.items():
        right = [row for row in rows if row["component"] == component and not row["wrong"]]
        if not right:
            found[component] = {"limit_ms": limit_ms, "verdict": "unverified: no right answer"}
            continue
        best = min(right, key=lambda row: row["median_ms"])
        found[component] = {
            "limit_ms": limit_ms,
            "median_ms": best["median_ms"],
            "way": best["subject"],
            "verdict": "pass" if best["median_ms"] <= limit_ms else "fail",
        }
    return found


def run_all(work: Sequence[Work], bundles: Sequence[Path], seconds: float) -> Figures:
    """Start a process for each, and gather what they print.

    Args:
        work: names of WORK with their arguments.
        bundles: for those that need one.
        seconds: until whatever still runs is killed.

    Returns:
        "rows" of all, and "unverified": name -> reason.
    """
    found: Figures = {"rows": [], "unverified": {}}
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        together = [item for item in work if not item.alone]
        for group in (together, *([item] for item in work if item.alone)):
            started = [(item, _started(item, folder, bundles)) for item in group]
            for item, process in started:
                rows, reason = _result(process, folder / f"{item}.log", deadline)
                found["rows"] += rows
                if reason:
                    found["unverified"][str(item)] = reason
    return found


def _started(item: Work, folder: Path, bundles: Sequence[Path]) -> "subprocess.Popen[bytes]":
    module = [sys.executable, "-m", "benchmarks.gpu_subject"]
    arguments = [str(folder / TIMING_LOCK), str(item), *map(str, bundles)]
    with (folder / f"{item}.log").open("w") as log:
        return subprocess.Popen(module + arguments, stdout=log, stderr=log)


def _result(
    process: "subprocess.Popen[bytes]", log: Path, deadline: float
) -> tuple[list[Figures], str]:
    """Rows, and why there are none."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return [], "not done within --minutes"
    lines = log.read_text().strip().splitlines() or ["nothing was printed"]
    return ([], lines[-1]) if process.returncode else (json.loads(lines[-1]), "")


def with_roofline(rows: Sequence[Figures], bundle: Path) -> None:
    """Add to each file's row which share of the GPU's peak it reaches."""
    macs = {name: sum(r.macs.values()) for name, r in bundle_reports(open_bundle(bundle)).items()}
    for row in rows:
        precision = row["subject"].rpartition(":")[2]
        peak = gpu_peak(this_machine().gpu, precision)
        if peak and row["component"] in macs:
            row["roofline_share"] = (
                2 * macs[row["component"]] / peak.gflops / 1e6 / row["median_ms"]
            )


def main(arguments: Sequence[str]) -> None:
    """Measure everything, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", help=f"of {', '.join(map(str, WORK))}")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("unverified: no GPU here")
        return
    work = [item for item in WORK if not options.only or str(item) in options.only]
    found = run_all(work, options.bundles, 60 * options.minutes)
    with_roofline(found["rows"], options.bundles[0])
    result = {
        "machine": this_machine().as_dict(),
        "limits": judged(found["rows"]),
        **found,
    }
    write_json(options.out, result)
    print(json.dumps(result["limits"], indent=1))
    for row in found["rows"]:
        print(json.dumps(row))
    print(json.dumps(found["unverified"], indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
