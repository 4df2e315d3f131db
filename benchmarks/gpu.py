"""MobileSAM in PyTorch on a GPU: latency, answers, throughput over batch, share of the roofline.

`python -m benchmarks.gpu BUNDLE` takes an `onnx` bundle at 1024 for its checkpoint and golden
vectors, and writes `benchmarks/results/gpu.json`. Without a GPU it says "unverified: no GPU here"
and writes nothing. The limits are those set for one H200: encoder 1.0 ms, decoder 0.35 ms, click to
mask 2 ms, medians at batch 1, with masks of IoU 0.99 and more.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobilesam_export.benchmark.figures import bundle_reports
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.measure import Options, measure
from mobilesam_export.benchmark.pytorch import DTYPES, MODES
from mobilesam_export.benchmark.pytorch_subjects import parse_modes, pytorch_subjects
from mobilesam_export.benchmark.roofline import gpu_peak
from mobilesam_export.benchmark.row import Row
from mobilesam_export.benchmark.statistics import summarize
from mobilesam_export.benchmark.timing import Schedule, time_call
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.load import load_matching_checkpoint
from mobilesam_export.files import write_json
from mobilesam_export.model import Sam

RESULT = Path(__file__).parent / "results" / "gpu.json"
LIMITS_MS = {"encoder": 1.0, "decoder": 0.35, "click_to_mask": 2.0}
BATCHES = (1, 2, 4, 8, 16, 32)
SCHEDULE = Schedule(warmup=10, rounds=200, max_seconds=20)


def throughput(
    encoder: nn.Module, batch: int, side: int, dtype: torch.dtype, device: str
) -> dict[str, float]:
    """Images per second of the plain encoder, at the median of some runs.

    Args:
        encoder: (batch, 3, side, side), normalised -> embeddings; on the device, in `dtype`.
        batch: images in one run.
        side: of the square input.
        dtype: of the images.
        device: "cuda" or "cpu".
    """
    images = torch.zeros(batch, 3, side, side, dtype=dtype, device=device)

    def run() -> None:
        encoder(images)
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():
        for _ in range(3):
            run()
        median_ms = summarize([time_call(run)[0] for _ in range(10)]).median_ms
    return {"batch": batch, "median_ms": median_ms, "images_per_s": batch / median_ms * 1e3}


def judged(rows: Sequence[Row]) -> dict[str, Any]:
    """The fastest right answer for each limit."""
    found = {}
    for component, limit_ms in LIMITS_MS.items():
        mine = [r for r in rows if r.component == component and r.latency and not r.wrong]
        best = min(mine, key=lambda r: r.latency.median_ms if r.latency else 0.0, default=None)
        if best is None or best.latency is None:
            found[component] = {"limit_ms": limit_ms, "verdict": "unverified: no right answer"}
            continue
        verdict = "pass" if best.latency.median_ms <= limit_ms else "fail"
        found[component] = {
            "limit_ms": limit_ms,
            "median_ms": best.latency.median_ms,
            "way": best.subject,
            "verdict": verdict,
        }
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure everything, or say why not."""
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    if not torch.cuda.is_available():
        print("unverified: no GPU here")
        return
    opened = open_bundle(Path(arguments[0]))
    modes = parse_modes([f"{m}:{p}" for m in MODES for p in DTYPES], "cuda")
    rows, _ = measure(pytorch_subjects(opened, None, modes, 0), Options(schedule=SCHEDULE))
    sam = Sam(opened.contract.image_size)
    sam.load_state_dict(load_matching_checkpoint(opened.provenance, None).state_dict)
    encoder = sam.image_encoder.eval().to("cuda", torch.bfloat16)
    side, machine = opened.contract.image_size, this_machine()
    macs = {name: sum(r.macs.values()) for name, r in bundle_reports(opened).items()}
    shares = {}
    for row in rows:
        peak = gpu_peak(machine.gpu, row.subject.partition(":")[2])
        if row.component in macs and row.latency and peak:
            bound_ms = 2 * macs[row.component] / peak.gflops / 1e6
            shares[f"{row.subject}, {row.component}"] = bound_ms / row.latency.median_ms
    result = {
        "machine": machine.as_dict(),
        "limits": judged(rows),
        "roofline_share": shares,
        "throughput_bfloat16": [
            throughput(encoder, batch, side, torch.bfloat16, "cuda") for batch in BATCHES
        ],
        "rows": [asdict(row) for row in rows],
    }
    write_json(RESULT, result)
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
