"""What a click takes with `prepare` and without, beside the naive exporter: float32, demo, 1024.

    python -m benchmarks.split_decoder onnx
    python -m benchmarks.split_decoder tflite

The naive form is the official code's (`naive_form`), through the same converter: `torch.onnx` or
litert-torch. Each round runs every file once, one after another, in one process with two threads.
Other work on the machine falls on all files of a round, so that the figure is the median of the
rounds' ratios. The question is six clicks, which fill the slots, without a mask.
"""

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import naive_form, recipe_latency, tflite_cpu
from benchmarks.prompt_sets import SEED, THREADS, convert, embedding_of
from benchmarks.tables import RESULTS
from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.files import write_json
from mobilesam_export.graphs import prepared_graphs, split_graphs
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.target import load_target

SIDE, POINTS, ROUNDS = 1024, 6, 40
RESULT = RESULTS / "split_decoder.json"
Inputs = dict[str, Array]


def question(contract: Contract, embedding: Array) -> Inputs:
    """The decoder's inputs: all slots foreground clicks, no mask."""
    random, side = np.random.default_rng(SEED), contract.image_size
    return {
        "image_embeddings": embedding,
        "point_coords": random.uniform(0, side, (1, POINTS, 2)).astype(np.float32),
        "point_labels": np.ones((1, POINTS), np.float32),
        "mask_input": np.zeros((1, 1, side // 4, side // 4), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }


def naive(target: str, sam: Sam, inputs: Inputs, folder: Path) -> Callable[[], list[Array]]:
    """The naive decoder's file, ready to run on the same question: masks, then IoU."""
    given = tflite_cpu.naive_inputs(inputs, "decoder", SIDE)
    module = naive_form.NaiveDecoder(sam).eval()
    path = folder / f"naive.{target}"
    if target == "tflite":
        tflite_cpu.convert_naive(module, given, path)
        file = tflite_cpu.File(path, given, ["output_0", "output_1"])

        def invoke() -> list[Array]:
            file.run()
            return file.answers()

        return invoke
    import onnxruntime

    naive_form.convert_onnx(module, given, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: list(session.run(None, given))


def measure(runs: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """Medians, and medians of the rounds' ratios to the naive form's."""
    times = recipe_latency.interleaved(dict(runs), ROUNDS)
    return {
        name: {
            "median_ms": round(statistics.median(values), 2),
            "ratio_to_naive": round(
                statistics.median(a / b for a, b in zip(values, times["naive"], strict=True)), 3
            ),
        }
        for name, values in times.items()
    }


@click.command()
@click.argument("target_name", type=click.Choice(["onnx", "tflite"]))
def main(target_name: str) -> None:
    """Measure, put the target in the JSON, print it."""
    target = load_target(target_name)
    backend, sam = get_backend(target.backend), build_sam(load_checkpoint("demo").state_dict, SIDE)
    contract = Contract(SIDE, POINTS, target.graph, split=True)
    inputs = question(contract, embedding_of(sam))
    with tempfile.TemporaryDirectory() as folder:
        graphs = (split_graphs(sam, contract)[1], *prepared_graphs(sam, contract))
        paths = {g.spec.name: convert(target_name, g, contract, Path(folder))[0] for g in graphs}
        sessions = {
            g.spec.name: backend.load(paths[g.spec.name], g.spec, threads=THREADS) for g in graphs
        }
        image = {"image_embeddings": inputs["image_embeddings"]}
        made = sessions["prepare"].run(image)
        asked = {**made, **{n: inputs[n] for n in ("point_coords", "point_labels")}}
        alone = naive(target_name, sam, inputs, Path(folder))
        runs: dict[str, Callable[[], object]] = {
            "naive": alone,
            "decoder": lambda: sessions["decoder"].run(inputs),
            "decoder_prepared": lambda: sessions["decoder_prepared"].run(asked),
            "prepare": lambda: sessions["prepare"].run(image),
        }
        plain = sessions["decoder"].run(inputs)["low_res_masks"]
        prepared = sessions["decoder_prepared"].run(asked)["low_res_masks"]
        result: dict[str, Any] = {
            "logits_apart": {
                "naive": float(np.abs(alone()[0] - plain).max()),
                "decoder_prepared": float(np.abs(prepared - plain).max()),
            },
            "bytes": {name: path.stat().st_size for name, path in paths.items()},
            "machine": this_machine().as_dict(),
            "files": measure(runs),
        }
    kept = json.loads(RESULT.read_text())["targets"] if RESULT.exists() else {}
    about = {"image_size": SIDE, "threads": THREADS, "rounds": ROUNDS}
    write_json(RESULT, {**about, "targets": {**kept, target_name: result}})
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
