"""By how much a process grows that opens a bundle and answers one click.

`python -m benchmarks.footprint BUNDLE...` writes `benchmarks/results/footprint.json`, which the
READMEs of bundles quote. Each bundle runs in a process of its own: both files are opened, then run
once on the landscape of `golden/`. Counted is the process's peak (VmHWM of /proc/self/status,
Linux) less what it held with the runtime set up and no encoder opened.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.files import write_json

RESULT = Path(__file__).parent / "results" / "footprint.json"
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
    opened.session("decoder", threads=THREADS)  # imports the runtime, and is freed at once
    before = status_bytes("VmRSS")
    predictor = opened.predictor(threads=THREADS)
    predictor.predict(case.prompts[0].prompt, predictor.embed(case.image))
    return {
        "target": opened.target,
        "recipe": opened.recipe_name,
        "image_size": opened.contract.image_size,
        "runtime": predictor.encoder.runtime,
        "process_bytes": status_bytes("VmHWM") - before,
    }


def main() -> None:
    """Measure the bundles that are named, each in a process of its own."""
    if sys.argv[1] == "--one":
        sys.stdout.write(json.dumps(measure(Path(sys.argv[2]))))
        return
    command = [sys.executable, "-m", "benchmarks.footprint", "--one"]
    rows = [json.loads(subprocess.check_output([*command, name])) for name in sys.argv[1:]]
    machine = this_machine().as_dict()
    write_json(RESULT, {"machine": machine, "threads": THREADS, "rows": rows})


if __name__ == "__main__":
    main()
