"""The paper's table rebuilt: SAM ViT-H's image encoder, MobileSAM's, and our files, in one run.

`python -m benchmarks.paper_table BUNDLE...` takes bundles at 1024, builds ViT-H's encoder from the
`transformers` package (`pip install --group paper`) with random weights, which change no latency,
and MobileSAM's from seeded ones. All encoders take turns; MACs of the PyTorch models are counted
by torch's own counter without running them. It writes `benchmarks/results/paper_table.json`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobilesam_export.benchmark import bundle_subjects
from mobilesam_export.bundle import open_bundle
from mobilesam_export.latency.gates import bundle_reports
from mobilesam_export.latency.machine import this_machine, usable_cores
from mobilesam_export.latency.results import write_json
from mobilesam_export.latency.statistics import summarize
from mobilesam_export.latency.subject import Loaded
from mobilesam_export.latency.timing import keep_freed_memory, steady, time_call
from mobilesam_export.model import build_sam
from mobilesam_export.seeded import seeded_state_dict

RESULT = Path(__file__).parent / "results" / "paper_table.json"
SIDE = 1024
VIT_H = "SAM ViT-H, PyTorch"
MOBILE = "MobileSAM, PyTorch"
ROUNDS = 2  # of everything, in turns
EACH = 3  # runs of a small encoder in a round, for each of ViT-H's
# The repository of the paper (ChaoningZhang/MobileSAM, README), one GPU; FastSAM has no encoder of
# its own, so that its figures are of the whole.
PAPER = {
    "SAM ViT-H": {"encoder_parameters": 611e6, "encoder_ms": 452, "parameters": 615e6, "ms": 456},
    "MobileSAM": {"encoder_parameters": 5e6, "encoder_ms": 8, "parameters": 9.66e6, "ms": 12},
    "FastSAM": {"parameters": 68e6, "ms": 64},
}


def vit_h() -> nn.Module:
    """SAM ViT-H's image encoder, (1, 3, 1024, 1024) -> (1, 256, 64, 64), random weights."""
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    config = SamVisionConfig(
        hidden_size=1280,
        num_hidden_layers=32,
        num_attention_heads=16,
        global_attn_indexes=[7, 15, 23, 31],
        image_size=SIDE,
        mlp_dim=5120,
        num_pos_feats=128,
    )
    encoder: nn.Module = SamVisionEncoder(config).eval()
    return encoder


def count(make: Callable[[], nn.Module]) -> dict[str, int]:
    """Parameters, and MACs of one picture, counted on shapes alone."""
    with torch.device("meta"):
        model = make()
        picture = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(picture)
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2}


def mobile_encoder() -> nn.Module:
    """MobileSAM's image encoder, plain PyTorch."""
    return build_sam(seeded_state_dict(0), SIDE).image_encoder


def mobile_counts() -> dict[str, int]:
    """The same for MobileSAM, whose weights are loaded and so cannot be meta."""
    model = mobile_encoder()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, SIDE, SIDE))
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2}


def torch_run(model: nn.Module) -> Callable[[], Any]:
    """One forward pass on a picture of noise."""
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def run() -> Any:  # noqa: ANN401 what the model returns
        return model(picture)

    return run


def bundle_run(folder: Path, threads: int) -> tuple[Callable[[], Any], dict[str, int]]:
    """A bundle's encoder file, and its parameters and MACs."""
    opened = open_bundle(folder)
    subject = bundle_subjects(opened, None, threads)[0]
    if subject.reason or opened.contract.image_size != SIDE:
        raise SystemExit(f"{folder} cannot be run here at {SIDE}: {subject.reason or 'its size'}")
    session = subject.open("encoder")
    loaded = Loaded((session, session), subject.contract, subject.case, subject.tolerance)
    inputs = loaded.inputs("encoder")
    report = bundle_reports(opened)["encoder"]
    figures = {"macs": sum(report.macs.values()), "file_bytes": report.file_bytes}
    return (lambda: session.run(inputs)), figures


def measure(runs: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Times in ms; ViT-H once a round, the others EACH times."""
    for name, run in runs.items():
        if name != VIT_H:  # its first run warms up what matters in a tenth of a run
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS):
        names = list(runs)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            for _ in range(1 if name == VIT_H else EACH):
                elapsed_ms, _ = time_call(runs[name])
                times[name].append(round(elapsed_ms, 2))
                print(f"{name}: {elapsed_ms:.0f} ms", file=sys.stderr, flush=True)
    return times


def main(folders: Sequence[str]) -> None:
    """Count, time, compare, write."""
    threads, start = usable_cores(), time.perf_counter()
    torch.set_num_threads(threads)
    keep_freed_memory()
    counts: dict[str, dict[str, int]] = {VIT_H: count(vit_h), MOBILE: mobile_counts()}
    runs = {MOBILE: torch_run(mobile_encoder())}
    for folder in folders:
        name = Path(folder).resolve().name
        runs[name], counts[name] = bundle_run(Path(folder), threads)
    runs[VIT_H] = torch_run(vit_h())
    before = os.getloadavg()[0]
    with steady():
        times = measure(runs)
    rows = {
        name: {**counts[name], "times_ms": times[name], **asdict(summarize(times[name]))}
        for name in (VIT_H, MOBILE, *(n for n in runs if n not in (VIT_H, MOBILE)))
    }
    slowest = rows[VIT_H]
    for row in rows.values():
        row["times_faster_than_vit_h"] = round(slowest["median_ms"] / row["median_ms"], 1)
        if "parameters" in row:
            row["times_smaller_than_vit_h"] = round(slowest["parameters"] / row["parameters"], 1)
    result = {
        "machine": this_machine().as_dict(),
        "threads": threads,
        "load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
        "seconds": round(time.perf_counter() - start, 1),
        "encoders": rows,
        "paper": PAPER,
    }
    write_json(RESULT, result)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
