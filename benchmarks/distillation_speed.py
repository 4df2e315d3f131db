"""What the cache of embeddings and a second process are worth in a distillation on CPUs.

    python -m benchmarks.distillation_speed

runs `distill` at 256 with the student `half` and one thread for each process, and writes
`benchmarks/results/distillation_speed.json`:

* cache: an epoch with a SAM ViT-B as teacher (random weights, which take as long), and the same
  epoch again from the embeddings that it has kept;
* processes: images per second of one process, and of two that `torchrun` starts, with the demo
  weights as teacher and the same global batch, alternating.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.random_teacher import VIT_B, random_encoder, save_teacher
from benchmarks.tables import RESULTS
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.files import write_json

SIZE, BATCH, IMAGES = 256, 4, 16
COMMON = ("--student", "half", "--image-size", str(SIZE), "--batch", str(BATCH), "--held-out", "1")
ONE = (sys.executable, "-m", "mobilesam_export")
TWO = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *ONE[1:])
Figures = dict[str, Any]


def seconds(program: Sequence[str], folder: Path, *arguments: str) -> float:
    """Of training, without loading and figures."""
    command = [*program, "distill", f"scenes:{IMAGES}", *COMMON, *arguments, "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout)["seconds"])


def cache(folder: Path) -> Figures:
    """Seconds of an epoch that fills the cache, and of one that reads it."""
    save_teacher(random_encoder(VIT_B), folder / "vit_b.safetensors")
    run = ("--teacher", "vit_b.safetensors", "--epochs", "1", "--cache", "cache")
    filling = seconds(ONE, folder, *run, "-o", "first.safetensors")
    reading = seconds(ONE, folder, *run, "-o", "second.safetensors")
    return {"filling_s": filling, "reading_s": reading, "ratio": filling / reading}


def processes(folder: Path, rounds: int) -> Figures:
    """Images per second of one and of two processes, from a cache that is full."""
    run = ("--teacher", "demo", "--epochs", "1", "--cache", "demo-cache")
    seconds(ONE, folder, *run, "-o", "fill.safetensors")
    rates: dict[str, list[float]] = {"one": [], "two": []}
    for number in range(rounds):
        for name, program in (("one", ONE), ("two", TWO)):
            took = seconds(program, folder, *run, "-o", f"{name}-{number}.safetensors")
            rates[name].append(IMAGES / took)
    ratios = [two / one for one, two in zip(rates["one"], rates["two"], strict=True)]
    return {"images_per_s": rates, "ratio": median(ratios), "ratios": ratios}


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": this_machine().as_dict(),
            "load_average": os.getloadavg()[0],
            "cache": cache(folder),
            "processes": processes(folder, rounds),
        }
    write_json(RESULTS / "distillation_speed.json", found)
    click.echo(json.dumps({k: v for k, v in found.items() if k != "machine"}, indent=1))


if __name__ == "__main__":
    main()
