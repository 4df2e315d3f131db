"""The paper's table rebuilt: SAM ViT-H's image encoder, MobileSAM's, and our files, in one run.

`python -m benchmarks.paper_table BUNDLE...` takes bundles at 1024, builds ViT-H's encoder from the
`transformers` package (`pip install --group paper`) with random weights, which change no latency,
and MobileSAM's from seeded ones. ViT-H is 28 equal blocks with windows and 4 equal blocks without:
one of each is timed, with what comes before and after them, and the times are added up, because the
whole takes 2.5 GB and minutes where other programs run. Everything takes turns; MACs of the PyTorch
models are counted by torch's own counter. Beside the wall clock, the time that the process itself
spent on all cores is kept, which other programs on the machine stretch less. It writes
`benchmarks/results/paper_table.json`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobilesam_export.benchmark.figures import bundle_reports
from mobilesam_export.benchmark.machine import this_machine, usable_cores
from mobilesam_export.benchmark.measure import bundle_subjects
from mobilesam_export.benchmark.statistics import summarize
from mobilesam_export.benchmark.subject import graph_inputs
from mobilesam_export.benchmark.timing import disable_malloc_trim, gc_disabled, time_call
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.files import write_json
from mobilesam_export.model import build_sam

RESULT = Path(__file__).parent / "results" / "paper_table.json"
SIDE = 1024
VIT_H = "SAM ViT-H, PyTorch"
MOBILE = "MobileSAM, PyTorch"
WIDTH = 1280  # channels of ViT-H
PARTS = {"ends": 1, "windowed": 28, "global": 4}
ROUNDS = 5
RATIOS = {
    "parameters": "times_smaller",
    "macs": "times_fewer_macs",
    "median_ms": "times_faster",
    "median_cpu_ms": "times_less_cpu",
}
# The repository of the paper (ChaoningZhang/MobileSAM, README), one GPU; FastSAM has no encoder of
# its own, so that its figures are of the whole.
PAPER = {
    "SAM ViT-H": {"encoder_parameters": 611e6, "encoder_ms": 452, "parameters": 615e6, "ms": 456},
    "MobileSAM": {"encoder_parameters": 5e6, "encoder_ms": 8, "parameters": 9.66e6, "ms": 12},
    "FastSAM": {"parameters": 68e6, "ms": 64},
}


def vit_h(layers: int = 32, whole_image: Sequence[int] = (7, 15, 23, 31)) -> nn.Module:
    """SAM ViT-H's image encoder, (1, 3, 1024, 1024) -> (1, 256, 64, 64), random weights.

    Args:
        layers: how many of its blocks.
        whole_image: which of them attend to the whole image, not to windows.
    """
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    config = SamVisionConfig(
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=16,
        global_attn_indexes=list(whole_image),
        image_size=SIDE,
        mlp_dim=5120,
        num_pos_feats=128,
    )
    encoder: nn.Module = SamVisionEncoder(config).eval()
    return encoder


def vit_h_parts() -> dict[str, Callable[[], Any]]:
    """Calls of one block of each kind, and of the ends, by the names of PARTS."""
    encoder = vit_h(layers=2, whole_image=(1,))
    hidden = torch.rand(1, SIDE // 16, SIDE // 16, WIDTH)
    blocks: Any = encoder.layers
    return {
        "ends": no_grad(lambda: encoder.neck(encoder.patch_embed(image()))),  # type: ignore[operator]
        "windowed": no_grad(lambda: blocks[0](hidden)),
        "global": no_grad(lambda: blocks[1](hidden)),
    }


def image() -> torch.Tensor:
    """(1, 3, SIDE, SIDE) of noise."""
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def no_grad(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same without a graph for gradients."""

    @torch.no_grad()
    def run() -> Any:  # noqa: ANN401 what the model returns
        return call()

    return run


def count(make: Callable[[], nn.Module]) -> dict[str, int]:
    """Parameters, and MACs of one image, counted on shapes alone."""
    with torch.device("meta"):
        model = make()
        image = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
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


def bundle_run(folder: Path, threads: int) -> tuple[Callable[[], Any], dict[str, int]]:
    """A bundle's encoder file, and its parameters and MACs."""
    opened = open_bundle(folder)
    subject = bundle_subjects(opened, None, threads)[0]
    if subject.reason or opened.contract.image_size != SIDE:
        raise SystemExit(f"{folder} cannot be run here at {SIDE}: {subject.reason or 'its size'}")
    session = subject.open("encoder")
    inputs = graph_inputs(subject.case, subject.contract, "encoder")
    report = bundle_reports(opened)["encoder"]
    figures = {"macs": sum(report.macs.values()), "file_bytes": report.file_bytes}
    return (lambda: session.run(inputs)), figures


def measure(runs: dict[str, Callable[[], Any]]) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU times in ms of everything, in turns, after one run of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(1 + ROUNDS):
        names = list(runs)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            before = time.process_time()
            wall_ms, _ = time_call(runs[name])
            cpu_ms = (time.process_time() - before) * 1e3
            if number:
                times[name].append((round(wall_ms, 2), round(cpu_ms, 2)))
            print(f"{name}: {wall_ms:.0f} ms, CPU {cpu_ms:.0f}", file=sys.stderr, flush=True)
    return times


def added_up(times: dict[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Times of ViT-H in each round, from those of its parts."""
    return [
        tuple(  # type: ignore[misc]
            round(sum(count * times[name][number][kind] for name, count in PARTS.items()), 2)
            for kind in (0, 1)
        )
        for number in range(ROUNDS)
    ]


def row(counts: dict[str, int], times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What is kept of one encoder."""
    wall, cpu = zip(*times, strict=True)
    return {
        **counts,
        "times_ms": wall,
        "cpu_times_ms": cpu,
        "median_ms": summarize(wall).median_ms,
        "median_cpu_ms": summarize(cpu).median_ms,
    }


def main(folders: Sequence[str]) -> None:
    """Count, time, compare, write."""
    threads, start = usable_cores(), time.perf_counter()
    torch.set_num_threads(threads)
    disable_malloc_trim()
    counts: dict[str, dict[str, int]] = {VIT_H: count(vit_h), MOBILE: mobile_counts()}
    mobile, pixels = mobile_encoder(), image()
    runs = {MOBILE: no_grad(lambda: mobile(pixels)), **vit_h_parts()}
    for folder in folders:
        name = Path(folder).resolve().name
        runs[name], counts[name] = bundle_run(Path(folder), threads)
    before = os.getloadavg()[0]
    with gc_disabled():
        times = measure(runs)
    times[VIT_H] = added_up(times)
    rows = {name: row(numbers, times[name]) for name, numbers in counts.items()}
    for item in rows.values():
        for figure, times_more in RATIOS.items():
            if figure in item:
                item[times_more] = round(rows[VIT_H][figure] / item[figure], 1)
    result = {
        "machine": this_machine().as_dict(),
        "threads": threads,
        "load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
        "seconds": round(time.perf_counter() - start, 1),
        "encoders": rows,
        "vit_h_parts": {name: {"count": n, "times": times[name]} for name, n in PARTS.items()},
        "paper": PAPER,
    }
    write_json(RESULT, result)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
