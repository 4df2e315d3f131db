"""Processor time of the MIL interpreter for the encoder at 1024, beside eager PyTorch.

`python -m benchmarks.interpreter_time` writes `benchmarks/results/interpreter_time.json`: the
float16 package as `verify` runs it and the plain float32 model, alternating in one process on one
thread. Processor seconds depend little on other load; the ratio is of medians.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target

RESULT = Path(__file__).parent / "results" / "interpreter_time.json"
SIDE, PAIRS = 1024, 2


def measure(folder: Path) -> dict[str, Any]:
    """Processor seconds of each run, by turns."""
    target = load_target("coreml")
    contract = Contract(SIDE, 6, target.graph)
    sam = build_sam(seeded_state_dict(0), SIDE)
    encoder, _ = split_graphs(sam, contract)
    path = folder / "encoder.mlpackage"
    recipe = target.recipes["float16"]
    settings = coreml.parse_recipe(recipe, target.graph, target.convert)
    metadata = dict.fromkeys(("description", "author", "license", "version"), "benchmark")
    coreml.convert(encoder, Conversion(settings, recipe, contract, metadata), path)
    sessions = {
        "interpreter": coreml.second_opinion(path),
        "pytorch": reference.load(sam, contract).encoder,
    }
    inputs = prompts.encoder_inputs(scene(1, 768, 1024), contract)
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(PAIRS + 1):
        for name, session in sessions.items():
            start = time.process_time()
            session.run(inputs)
            if turn:  # the first is for warming up
                seconds[name].append(round(time.process_time() - start, 3))
    return {
        "processor_seconds": seconds,
        "ratio": round(
            statistics.median(seconds["interpreter"]) / statistics.median(seconds["pytorch"]), 2
        ),
    }


def main() -> None:
    """Measure, write, print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    result = {"image_size": SIDE, "threads": 1, "torch": torch.__version__, **measured}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
