"""Time and peak memory of whole exports, and of `--help`, each in a process of its own.

`python -m benchmarks.export_cost` writes `benchmarks/results/export_cost.json`. Peak memory is
the resident set of the process as the kernel counts it. The limits are those of the issue: an
export of `coreml -c seeded` at 1024 on 2 cores in under 60 s and 4 GB, `--help` in under 0.5 s.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobilesam_export.target import builtin_targets

RESULT = Path(__file__).parent / "results" / "export_cost.json"
ROUNDS = 3
KIB = 1024


def measure(arguments: list[str], rounds: int) -> dict[str, Any]:
    """Run the command line several times; keep every figure."""
    seconds, peaks = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "mobilesam_export", *arguments]
            start = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds.append(round(time.perf_counter() - start, 3))
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
            unit = 1 if platform.system() == "Darwin" else KIB  # ru_maxrss counts KiB on Linux
            peaks.append(round(usage.ru_maxrss * unit / 1e9, 3))
    return {"seconds": seconds, "peak_gb": peaks}


def main() -> None:
    """Measure, write, print."""
    cases = {"--help": (["--help"], 9)}
    for target in builtin_targets():
        cases[f"{target} -c seeded"] = ([target, "-c", "seeded"], ROUNDS)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "runs": {name: measure(*case) for name, case in cases.items()},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
