"""What a process needs for a bundle: load time, and growth of its memory to the first mask.

`python -m benchmarks.footprint BUNDLE...` writes `benchmarks/results/footprint.json`, which the
READMEs of bundles quote. Each bundle runs in a process of its own: both files are opened, then run
once on the landscape of `golden/`. Memory is the rise of the process's peak (VmHWM of
/proc/self/status, Linux) over what it held with the runtime imported and no file opened.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.statistics import summarize
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.benchmark.timing import time_call
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.files import write_json
from mobilesam_export.predictor import Predictor

RESULT = Path(__file__).parent / "results" / "footprint.json"
PROCESSES = 3
THREADS = 2


def status_bytes(field: str) -> int:
    """A field of this process's status in bytes, such as "VmRSS"."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def measure(folder: Path) -> dict[str, Any]:
    """Open both files of a bundle and answer one click, in this process."""
    opened = open_bundle(folder)
    case = golden.read(folder / "golden")[0]
    get_backend(opened.backend).devices()  # imports the runtime
    opened.session("decoder", threads=THREADS)  # and lets it set itself up
    before = status_bytes("VmRSS")
    loads = [time_call(lambda g=graph: opened.session(g, threads=THREADS)) for graph in GRAPHS]  # type: ignore[misc]
    predictor = Predictor(loads[0][1], loads[1][1], opened.contract)
    predictor.predict(case.prompts[0].prompt, predictor.embed(case.image))
    return {
        "target": opened.target,
        "recipe": opened.recipe_name,
        "image_size": opened.contract.image_size,
        "runtime": predictor.encoder.runtime,
        "load_ms": {graph: load_ms for graph, (load_ms, _) in zip(GRAPHS, loads, strict=True)},
        "process_bytes": status_bytes("VmHWM") - before,
    }


def repeat(folder: Path) -> dict[str, Any]:
    """Medians over `PROCESSES` fresh processes."""
    command = [sys.executable, "-m", "benchmarks.footprint", "--one", str(folder)]
    found = [json.loads(subprocess.check_output(command)) for _ in range(PROCESSES)]
    loads = {g: summarize([item["load_ms"][g] for item in found]).median_ms for g in GRAPHS}
    sizes = sorted(item["process_bytes"] for item in found)
    return {**found[0], "load_ms": loads, "process_bytes": sizes[PROCESSES // 2]}


def main() -> None:
    """Measure the bundles that are named."""
    if sys.argv[1] == "--one":
        sys.stdout.write(json.dumps(measure(Path(sys.argv[2]))))
        return
    rows = [repeat(Path(name)) for name in sys.argv[1:]]
    result = {
        "machine": this_machine().as_dict(),
        "threads": THREADS,
        "processes": PROCESSES,
        "rows": rows,
    }
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
