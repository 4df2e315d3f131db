"""The `tflite` target beside the naive conversion of the same weights: time, memory, size, answers.

    python -m benchmarks.tflite_cpu --prepare     exports and converts, into build/recipes/
    python -m benchmarks.tflite_cpu               measures, writes the JSON, prints the tables

Naive is the model as the official code writes it (`naive_form`), converted by litert-torch as it
is: the encoder from the normalised image on, the decoder with only its labels rewritten.
All files of one graph take turns in one process, in an order drawn by a seed, with two threads of
XNNPACK; ratios are of medians. Answers are compared with float32 PyTorch's before the clock starts.
Do the second step on a quiet machine.
"""

import hashlib
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from benchmarks import naive_form, recipe_latency, recipes, speed_tables, tflite_memory
from benchmarks.rounds import ratio
from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.tflite.xnnpack import find_partitions
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target

RESULT = recipes.ROOT / "benchmarks" / "results" / "tflite_cpu.json"
THREADS, SEED, SLOTS = 2, 0, 6
ROUNDS = {"encoder": 60, "decoder": 120}
RECIPES = ("float32", "float16", "w8-dynamic")
# Instructions that multiply int8 in groups of four; without them int8 is no faster than float32.
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
Inputs = Mapping[str, Array]


class File:
    """A .tflite file with inputs set, to be run again and again."""

    def __init__(self, path: Path, inputs: Inputs, outputs: Sequence[str]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet_descriptors():
            self.interpreter: Any = Interpreter(str(path), num_threads=THREADS)
            self.interpreter.allocate_tensors()
        (signature,) = self.interpreter._get_full_signature_list().values()
        for name, index in signature["inputs"].items():
            self.interpreter.set_tensor(index, inputs[name])
        self.outputs = [signature["outputs"][name] for name in outputs]

    def run(self) -> None:
        self.interpreter.invoke()

    def answers(self) -> list[Array]:
        """What the last run made."""
        return [self.interpreter.get_tensor(index) for index in self.outputs]


def naive_inputs(ours: Inputs, graph: str, side: int) -> dict[str, Array]:
    """The same question in the form in which the naive graphs take it."""
    if graph == "encoder":
        return {"image": reference.normalize(ours["image"], square(side)).numpy()}
    # Our slots are full of clicks: PyTorch then adds one "not a point".
    coords, labels = ours["point_coords"], ours["point_labels"]
    more = {
        "point_coords": np.concatenate([coords, np.zeros((1, 1, 2), np.float32)], axis=1),
        "point_labels": np.concatenate([labels, -np.ones((1, 1), np.float32)], axis=1),
    }
    return {**ours, **more}


def convert_naive(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """What litert-torch makes of a module as it is."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {name: torch.from_numpy(values) for name, values in inputs.items()}
    with quiet_descriptors(), torch.no_grad():
        import litert_torch

        signature = litert_torch.signature("naive", module.eval(), sample_kwargs=given)
        part = path.with_suffix(".part")
        part.write_bytes(signature.convert().model_content())
    part.rename(path)


def questions(run: recipes.Run, contract: Contract) -> tuple[dict[str, Inputs], dict[str, Inputs]]:
    """Inputs of both graphs, a scene and six clicks on it, and PyTorch's answers."""
    predictor = reference.load(run.sam, contract)
    image = scene(SEED, run.side, run.side)
    encoded = predictor.embed(image)
    points = np.random.default_rng(SEED).uniform(0, run.side, (SLOTS, 2))
    prompt = prompts.Prompt(points=tuple((float(x), float(y), True) for x, y in points))
    answers = predictor.decode(prompt, encoded)
    inputs: dict[str, Inputs] = {
        "encoder": prompts.encoder_inputs(image, contract),
        "decoder": prompts.decoder_inputs(prompt, encoded.embeddings, encoded.size, contract),
    }
    return inputs, {
        "encoder": {"image_embeddings": encoded.embeddings},
        "decoder": {spec.name: answers[spec.name] for spec in contract.decoder.outputs},
    }


def prepare(run: recipes.Run, inputs: Mapping[str, Inputs]) -> dict[str, dict[str, Path]]:
    """All files of each graph by name."""
    form = hashlib.sha256(Path(naive_form.__file__).read_bytes()).hexdigest()[:8]
    modules = {"encoder": naive_form.NaiveEncoder, "decoder": naive_form.NaiveDecoder}
    target = load_target("tflite")
    folders = {recipe: recipes.exported(run, target, recipe) for recipe in RECIPES}
    found: dict[str, dict[str, Path]] = {}
    for graph, module in modules.items():
        path = run.folder / f"naive-{form}" / f"{graph}.tflite"
        convert_naive(module(run.sam), naive_inputs(inputs[graph], graph, run.side), path)
        found[graph] = {"naive": path}
        found[graph] |= {name: folder / f"{graph}.tflite" for name, folder in folders.items()}
    return found


def measure(
    files: Mapping[str, Path], graph: str, inputs: Inputs, expected: Inputs, side: int
) -> dict[str, Any]:
    """Every figure of one graph's files, but for memory."""
    numbered = [f"output_{index}" for index in range(len(expected))]
    opened = {
        name: File(path, inputs, list(expected)) for name, path in files.items() if name != "naive"
    }
    opened["naive"] = File(files["naive"], naive_inputs(inputs, graph, side), numbered)
    errors = {}
    for name, file in opened.items():
        file.run()
        pairs = zip(expected.items(), file.answers(), strict=True)
        errors[name] = {key: float(np.abs(found - right).max()) for (key, right), found in pairs}
    times = recipe_latency.interleaved({n: f.run for n, f in opened.items()}, ROUNDS[graph])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        name: {
            "bytes": path.stat().st_size,
            "max_abs_errors": errors[name],
            "median_ms": round(medians[name], 2),
            "ratio_to_naive": round(medians[name] / medians["naive"], 3),
            "ratio_to_float32": round(medians[name] / medians["float32"], 3),
            "round_ratio_to_naive": ratio(times[name], times["naive"]),
            "times_ms": [round(value, 2) for value in times[name]],
            **partitions(path),
        }
        for name, path in files.items()
    }


def partitions(path: Path) -> dict[str, Any]:
    """Into how many parts XNNPACK cuts a file, and what it leaves."""
    found = find_partitions(path)
    assert found is not None  # noqa: S101 - the file has just been run
    return {"partitions": found.count, "left": [kind for kind, _ in found.left]}


def int8_instructions() -> list[str]:
    """Those of the processor that XNNPACK's int8 kernels are fast with."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [platform.machine()]
    return [name for name in INT8_FLAGS if name in flags]


@click.command()
@click.option("-c", "--checkpoint", default="demo", show_default=True)
@click.option("--image-size", "side", default=1024, show_default=True)
@click.option("--prepare", "only_prepare", is_flag=True, help="Write the files and stop.")
def main(checkpoint: str, side: int, only_prepare: bool) -> None:
    """Measure, write the JSON, print it."""
    loaded = load_checkpoint(checkpoint)
    weights = loaded.provenance.weights_sha256
    run = recipes.run_of(loaded, checkpoint, side)
    contract = Contract(side, SLOTS, load_target("tflite").graph)
    inputs, expected = questions(run, contract)
    files = prepare(run, inputs)
    if only_prepare:
        return
    result: dict[str, Any] = {
        "checkpoint": loaded.provenance.source,
        "weights": weights,
        "image_size": side,
        "threads": THREADS,
        "rounds": ROUNDS,
        "machine": this_machine().as_dict(),
        "int8_instructions": int8_instructions(),
    }
    for graph in files:
        result[graph] = measure(files[graph], graph, inputs[graph], expected[graph], side)
    for graph in files:  # after the clock: these are processes of their own
        for name, path in files[graph].items():
            result[graph][name]["memory"] = tflite_memory.measure(path)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for graph in files:
        click.echo(speed_tables.tflite(graph))


if __name__ == "__main__":
    main()
