"""Our fitted int8 encoders beside other tools': NNCF and AIMET, on the same weights.

    python -m venv build/nncf && build/nncf/bin/pip install nncf onnx onnxruntime
    python -m venv build/aimet && build/aimet/bin/pip install aimet-onnx
    python -m benchmarks.baselines WEIGHTS... --nncf build/nncf/bin/python --aimet ...

For each of WEIGHTS ("demo", or a family such as "heads=1.0", see `benchmarks.arithmetic`) the tools
get our float32 ONNX encoder, our calibration images and, for a judge, mask IoU through our float32
decoder. What they write is compared on ten scenes that nothing was calibrated on, all encoders with
that same decoder. Rows go into `benchmarks/results/baselines.json`. At 256, one thread.
"""

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.arithmetic import DEMO, HEADS, demo_weights, write_checkpoint
from benchmarks.recipes import KINDS, Run, ask, reference_answers, summary
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export import calibration, prompts
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.benchmark.timing import Schedule, Series, Task, run_rounds
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Array
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.pipeline import Job, export
from mobilesam_export.predictor import Predictor, chosen_index
from mobilesam_export.scenes import masked_scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification.cases import object_prompts

RESULT = RESULTS / "baselines.json"
TOOL = Path(__file__).with_name("baseline_tool.py")
SIDE, SCENES, ROUNDS = 256, 10, 30
TOOLS = {"nncf": "nncf", "aimet": "aimet", "aimet-mixed": "aimet"}  # each, and its environment
OURS = ("float32", "w8-dynamic", "w8a8")
Figures = dict[str, Any]


def write_samples(path: Path, predictor: Predictor) -> None:
    """Calibration images, and PyTorch's answers to prompts about the objects in them."""
    images: list[Array] = []
    rows: dict[str, list[Array]] = {"of_image": [], "mask_index": [], "mask": []}
    for number in range(calibration.GENERATED):
        scene = masked_scene(calibration.SEED + number, SIDE * 3 // 4, SIDE)
        images.append(prompts.encoder_inputs(scene.image, predictor.contract)["image"])
        image = predictor.embed(scene.image)
        for mask in scene.masks:
            for prompt in (object_prompts(mask, 6)[kind] for kind in KINDS):
                inputs = prompts.decoder_inputs(
                    prompt, image.embeddings, image.size, predictor.contract
                )
                outputs = predictor.decoder.run(inputs)
                index = chosen_index(prompt, outputs["iou_predictions"])
                rows["of_image"].append(np.array(number))
                rows["mask_index"].append(np.array(index))
                rows["mask"].append(outputs["low_res_masks"][0, index] > 0)
                for name, value in inputs.items():
                    if name != "image_embeddings":
                        rows.setdefault(name, []).append(value)
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in rows.items()}
    np.savez(path, image=np.stack(images), **arrays)


def quantized(tool: str, python: str, folder: Path) -> Figures:
    """Run a tool in its environment; what it printed, and the path of its file or its error."""
    out = folder / f"{tool}.onnx"
    command = [python, str(TOOL), tool, str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode:
        return {"error": lines[-1] if lines else f"exit code {done.returncode}"}
    found: Figures = json.loads(lines[-1])
    return found | {"path": out}


def accuracy(run: Run, predictor: Predictor) -> Figures:
    """Mask IoU by kind on the scenes of `benchmarks.recipes`."""
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for asked in reference_answers(run, predictor.contract):
        ask(predictor, asked, ious)
    return {kind: summary(values) for kind, values in ious.items()}


def ratios(sessions: Mapping[str, Session], inputs: Mapping[str, Array]) -> dict[str, float]:
    """Processor time of each encoder beside float32's, alternating."""
    tasks = {name: Task(partial(session.run, dict(inputs))) for name, session in sessions.items()}
    series: dict[str, Series] = {}
    run_rounds(tasks, Schedule(0, ROUNDS, math.inf), series, time.process_time)
    base = np.array(series["float32"].times_ms)
    return {name: float(np.median(found.times_ms / base)) for name, found in series.items()}


def exported(checkpoint: Path, folder: Path) -> tuple[dict[str, Path], dict[str, Figures]]:
    """Our encoders by recipe, fitted where that takes it, and how each came about."""
    paths, notes = {}, {}
    for recipe in OURS:
        job = Job(load_target("onnx"), recipe, str(checkpoint), folder / recipe, SIDE)
        start = time.process_time()
        outcome = export(replace(job, keep_failed=True))
        notes[recipe] = {
            "seconds": time.process_time() - start,
            "fitted": bool(outcome.fit and outcome.fit.raised),
            "status": outcome.report.status.value,
        }
        paths[recipe] = folder / recipe / "encoder.onnx"
    return paths, notes


def measured(sam: Sam, checkpoint: Path, tools: Mapping[str, str], folder: Path) -> list[Figures]:
    """One row for each encoder."""
    paths, notes = exported(checkpoint, folder)
    opened = open_bundle(folder / "float32")
    contract, decoder = opened.contract, opened.session("decoder", "cpu", 1)
    for part in ("encoder", "decoder"):
        (folder / f"{part}.onnx").symlink_to(folder / "float32" / f"{part}.onnx")
    write_samples(folder / "samples.npz", reference.load(sam, contract))
    for tool, python in tools.items():
        notes[tool] = quantized(tool, python, folder)
        if path := notes[tool].pop("path", None):
            paths[tool] = path
    load = get_backend("onnx").load
    sessions = {name: load(path, contract.encoder, "cpu", 1) for name, path in paths.items()}
    image = prompts.encoder_inputs(masked_scene(1, SIDE, SIDE).image, contract)
    latency = ratios(sessions, image)
    run = Run(str(checkpoint), sam, SIDE, SCENES, folder)
    rows = []
    for label in notes:
        row = {"encoder": label, **notes[label]}
        if label in sessions:
            predictor = Predictor(sessions[label], decoder, contract)
            row |= {"bytes": paths[label].stat().st_size, "latency_ratio": latency[label]}
            row |= {"mask_iou": accuracy(run, predictor)}
        rows.append(row)
        click.echo(json.dumps(row))
    return rows


@click.command()
@click.argument("weights", nargs=-1, required=True)
@click.option("--nncf", help="Python of an environment with it.")
@click.option("--aimet", help="Python of an environment with it.")
@click.option("--only", multiple=True, type=click.Choice([*TOOLS]), help="Of the tools.")
def main(weights: Sequence[str], only: Sequence[str], **pythons: str | None) -> None:
    """Measure our rows of WEIGHTS, and those of the tools, anew."""
    asked = [tool for tool in TOOLS if not only or tool in only]
    tools = {tool: python for tool in asked if (python := pythons[TOOLS[tool]])}
    for name in weights:
        with tempfile.TemporaryDirectory() as scratch:
            entries = (DEMO | HEADS)[name](demo_weights())
            checkpoint = Path(scratch) / "weights.safetensors"
            write_checkpoint(entries, checkpoint)
            new = measured(build_sam(entries, SIDE), checkpoint, tools, Path(scratch))
        for row in new:
            replace_row(RESULT, {"weights": name, **row}, ("weights", "encoder"))


if __name__ == "__main__":
    main()
