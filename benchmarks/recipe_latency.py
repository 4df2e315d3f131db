"""How long encoders take beside the float32 one of their target, in one process, interleaved.

Each round runs every file once, in an order drawn by a seed, so that whatever else the machine
does falls on all alike; the ratio is of medians. Two threads.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import rounds as turns
from mobilesam_export import prompts
from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import manifest
from mobilesam_export.scenes import scene
from mobilesam_export.target import Target, load_target

THREADS, ROUNDS, SEED = 2, 12, 0
Encode = Callable[[], Any]
# glibc gives large blocks back to the system at each run otherwise, which is most of the noise
ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def can_time(target: Target, recipe: str) -> bool:
    """Whether a recipe's files have a runtime here that is made for them."""
    # LiteRT has reference kernels only for 16-bit activations: 20 times slower, meant for NPUs.
    unfit = target.backend == "coreml" or target.recipes[recipe].activations == "int16"
    return not unfit and not get_backend(target.backend).why_unavailable()


def measure(folders: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Median milliseconds of each encoder and its ratio to float32 of its target.

    Args:
        folders: bundles by target:recipe, of which each `can_time`.
    """
    groups: dict[str, dict[str, Encode]] = {}
    for label, folder in folders.items():
        backend = load_target(label.partition(":")[0]).backend
        groups.setdefault(backend, {})[label] = bundle_encoder(folder)
    found: dict[str, dict[str, Any]] = {}
    for encoders in groups.values():
        times = interleaved(encoders, ROUNDS)
        medians = {label: statistics.median(values) for label, values in times.items()}
        for label, median in medians.items():
            base = f"{label.partition(':')[0]}:float32"
            found[label] = {
                "median_ms": round(median, 1),
                "min_ms": round(min(times[label]), 1),
                "ratio": round(median / medians.get(base, median), 3),
                "threads": THREADS,
                "rounds": ROUNDS,
                "allocator": {name: os.environ.get(name) for name in ALLOCATOR},
            }
    return found


def interleaved(encoders: Mapping[str, Encode], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, round by round."""
    runs = list(encoders.values())

    def timed(index: int) -> float:
        start = time.perf_counter()
        runs[index]()
        return 1e3 * (time.perf_counter() - start)

    return dict(zip(encoders, turns.interleaved(timed, len(runs), rounds), strict=True))


def bundle_encoder(folder: Path) -> Encode:
    """A run of a bundle's encoder on a scene of its size."""
    opened = manifest.open_bundle(folder)
    session = opened.session("encoder", threads=THREADS)
    side = opened.contract.image_size
    inputs = prompts.encoder_inputs(scene(SEED, side, side), opened.contract)
    return lambda: session.run(inputs)
