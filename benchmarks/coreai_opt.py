"""Weights of the encoder as coreai-opt, Apple's compressor, stores them, beside `coreml`'s.

    python -m venv build/coreai && build/coreai/bin/pip install ".[coreml]" coreai-opt
    build/coreai/bin/python -m benchmarks.coreai_opt WEIGHTS...

For each of WEIGHTS ("demo", or a family such as "heads=1.0:0", see `benchmarks.arithmetic`)
coreai-opt gets our encoder in `coreml`'s form and its own presets; its palettes are made anew by
what a calibration's scenes say of each weight, too. What it leaves is run in PyTorch, `coreml`'s
files by the interpreter, all with the float32 decoder, on ten scenes that nothing was calibrated
on, at 256. Rows go into `benchmarks/results/coreai_opt.json`. Weights alone: nothing is faster.
"""

import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.arithmetic import DEMO, HEADS, demo_weights, write_checkpoint
from benchmarks.recipes import SCENES, Run, accuracy_of, part_bytes, written_files
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export import calibration
from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import Graph, as_session, split_graphs
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.pipeline import Job, export
from mobilesam_export.target import load_target

RESULT = RESULTS / "coreai_opt.json"
SIDE, SLOTS = 256, 6
RECIPES = ("w8", "w6-palettized", "w4-palettized")
Row = dict[str, Any]


@dataclass(frozen=True)
class Encoder:
    """What is to be compressed, and images that say how.

    Attributes:
        graph: in `coreml`'s form.
        images: what its module takes, of scenes.
    """

    graph: Graph
    images: Sequence[tuple[Tensor, ...]]


def quantized(encoder: Encoder) -> nn.Module:
    """Weights in int8, a scale for each output."""
    from coreai_opt.quantization import ExecutionMode, Quantizer, QuantizerConfig

    config = QuantizerConfig.presets.w8(axis=0).set_execution_mode(ExecutionMode.EAGER)
    module = copy.deepcopy(encoder.graph.module)
    prepared: nn.Module = Quantizer(module, config).prepare(encoder.images[0])
    return prepared


def palettized(encoder: Encoder, bits: int, *, sensitive: bool) -> nn.Module:
    """A palette for 16 outputs; its entries nearer to what counts more if it is `sensitive`."""
    from coreai_opt.palettization import KMeansPalettizer, KMeansPalettizerConfig

    config = getattr(KMeansPalettizerConfig.presets, f"w{bits}")()
    module = copy.deepcopy(encoder.graph.module).requires_grad_(requires_grad=True)
    palettizer = KMeansPalettizer(module, config)
    prepared: nn.Module = palettizer.prepare(encoder.images[0])
    if sensitive:
        expected = [encoder.graph.module(*image).detach() for image in encoder.images]
        with torch.enable_grad(), palettizer.calibration_mode(loss_fn=F.mse_loss) as helper:
            for image, wanted in zip(encoder.images, expected, strict=True):
                # away from the answer: at the answer itself no weight has a gradient
                helper.step(prepared(*image), wanted + torch.randn_like(wanted) * wanted.std())
    return prepared


METHODS: dict[str, Callable[[Encoder], nn.Module]] = {
    "w8": quantized,
    "w6": lambda encoder: palettized(encoder, 6, sensitive=False),
    "w6, by sensitivity": lambda encoder: palettized(encoder, 6, sensitive=True),
    "w4": lambda encoder: palettized(encoder, 4, sensitive=False),
    "w4, by sensitivity": lambda encoder: palettized(encoder, 4, sensitive=True),
}


def theirs(sam: Sam, run: Run) -> Iterator[Row]:
    """A row for each of METHODS."""
    from coreai_opt.inspection import bits_per_weight

    contract = Contract(SIDE, SLOTS, load_target("coreml").graph)
    graph, _ = split_graphs(sam, contract)
    predictor = reference.load(sam, contract)
    samples = calibration.collect(None, predictor).samples["encoder"]
    encoder = Encoder(graph, [graph.module_inputs(sample) for sample in samples])
    for name, method in METHODS.items():
        start = time.process_time()
        module = method(encoder)
        seconds = time.process_time() - start
        session = as_session(replace(graph, module=module))
        found = accuracy_of(run, replace(predictor, encoder=session))
        yield {
            "encoder": f"coreai-opt {name}",
            "bytes": round((bits_per_weight(module).total_bits - 16 * _left(module)) / 8),
            "seconds": seconds,
            **found,
        }


def _left(module: nn.Module) -> int:
    """Numbers that stay as they are: float32 here, float16 in a file."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return sum(tensor.numel() for name, tensor in tensors if "parametrizations" not in name)


def ours(checkpoint: Path, sam: Sam, run: Run) -> Iterator[Row]:
    """A row for each of RECIPES."""
    for recipe in RECIPES:
        start = time.process_time()
        folder = run.folder / recipe
        job = Job(load_target("coreml"), recipe, str(checkpoint), folder, SIDE)
        outcome = export(replace(job, keep_failed=True))
        seconds = time.process_time() - start
        opened = open_bundle(folder)
        predictor = replace(
            reference.load(sam, opened.contract), encoder=opened.predictor().encoder
        )
        yield {
            "encoder": f"coreml {recipe}",
            "bytes": part_bytes(written_files(folder))["encoder"],
            "seconds": seconds,
            "fitted": bool(outcome.fit and outcome.fit.raised),
            **accuracy_of(run, predictor),
        }


@click.command()
@click.argument("weights", nargs=-1, required=True)
def main(weights: Sequence[str]) -> None:
    """Measure and write the rows of WEIGHTS anew."""
    for name in weights:
        with tempfile.TemporaryDirectory() as scratch:
            entries = (DEMO | HEADS)[name](demo_weights())
            checkpoint = Path(scratch) / "weights.safetensors"
            write_checkpoint(entries, checkpoint)
            sam = build_sam(entries, SIDE)
            run = Run(str(checkpoint), sam, SIDE, SCENES, Path(scratch))
            for row in (*ours(checkpoint, sam, run), *theirs(sam, run)):
                kept = {key: value for key, value in row.items() if key != "collapse_guard"}
                replace_row(RESULT, {"weights": name, **kept}, ("weights", "encoder"))
                click.echo(json.dumps(kept))


if __name__ == "__main__":
    main()
