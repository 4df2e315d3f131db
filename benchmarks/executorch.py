"""What ExecuTorch's encoders take beside those of ONNX Runtime and LiteRT: demo weights, 1024.

    python -m benchmarks.executorch FOLDER [--bundle BUNDLE]

Each round runs every file once, one after another, in one process with two threads. Other work on
the machine falls on all files of a round, so that the figures are medians of the rounds' ratios.
Encoders are converted into FOLDER, which takes minutes; those that are there are not made again.
BUNDLE is one of `w8-dynamic`, whose verification says how its masks differ from PyTorch's.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks import recipe_latency
from benchmarks.rounds import ratio
from benchmarks.tables import RESULTS
from mobilesam_export.backends import get_backend
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.files import write_json
from mobilesam_export.graphs import as_session, split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import build_sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target

SIDE, POINTS, THREADS, ROUNDS = 1024, 6, 2, 12
RESULT = RESULTS / "executorch.json"
OURS = "executorch"
FILES = (
    ("onnx", "float32"),
    ("tflite", "float32"),
    (OURS, "float32"),
    (OURS, "w8-dynamic"),
)
ABOUT = {"description": "", "version": "", "author": "", "license": ""}


def measure(folder: Path) -> dict[str, Any]:
    """Bytes, error and time of each encoder, by target:recipe."""
    sam = build_sam(load_checkpoint("demo").state_dict, SIDE)
    image = {"image": scene(0, SIDE, SIDE)[None]}
    reference, runs, files = None, {}, {}
    for name, recipe_name in FILES:
        target = load_target(name)
        backend, recipe = get_backend(target.backend), target.recipes[recipe_name]
        contract = Contract(SIDE, POINTS, target.graph)
        encoder, _ = split_graphs(sam, contract)
        if reference is None:
            reference = as_session(encoder).run(image)["image_embeddings"]
        path = folder / f"{name}-{recipe_name}{backend.suffix}"
        if not path.exists():
            settings = backend.parse_recipe(recipe, target.graph, {**target.convert})
            backend.convert(encoder, Conversion(settings, recipe, contract, ABOUT), path)
        session = backend.load(path, encoder.spec, threads=THREADS)
        label = f"{name}:{recipe_name}"
        runs[label] = _run(session.run, image)
        answer = session.run(image)["image_embeddings"]
        files[label] = {"bytes": path.stat().st_size, "psnr_db": psnr_db(answer, reference)}
    times = recipe_latency.interleaved(runs, ROUNDS)
    for label, values in times.items():
        files[label]["median_ms"] = round(statistics.median(values), 1)
        for other in ("onnx", "tflite"):
            files[label][f"ratio_to_{other}"] = ratio(values, times[f"{other}:float32"])
    return files


def masks(bundle: Path) -> dict[str, float]:
    """Mask IoU with PyTorch over the prompts of a bundle's verification."""
    prompts = json.loads((bundle / "manifest.json").read_text())["verification"]["prompts"]
    ious = [prompt["mask_iou"] for prompt in prompts]
    return {"prompts": len(ious), "mean": statistics.mean(ious), "worst": min(ious)}


def _run(run: Callable[[Any], object], inputs: object) -> Callable[[], object]:
    return lambda: run(inputs)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(exists=True, path_type=Path))
def main(folder: Path, bundle: Path | None) -> None:
    """Measure, write the JSON, print it."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads(RESULT.read_text()).get("masks") if RESULT.exists() else None
    result = {
        "image_size": SIDE,
        "threads": THREADS,
        "rounds": ROUNDS,
        "machine": this_machine().as_dict(),
        "files": measure(folder),
        "masks": masks(bundle) if bundle else kept,
    }
    write_json(RESULT, result)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
