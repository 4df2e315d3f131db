"""How long a prompt takes in `decoder_batch` beside the decoder: float32, demo weights, 1024.

    python -m benchmarks.prompt_sets onnx --sets 16
    python -m benchmarks.prompt_sets tflite --sets 16 --sets 64

Each round times the decoder and the batch after one another, both in the same process with two
threads. The machine has other work, so that times mean little; the figure is the median of the
rounds' ratios. Every set's answer is compared with the decoder file's to the same prompt.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.tables import RESULTS
from mobilesam_export.backends import get_backend
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import EMPTY, FOREGROUND, Array, Contract
from mobilesam_export.files import write_json
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.graphs.decoder_sets import SetsDecoder
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.session import Session
from mobilesam_export.target import load_target

SIDE, THREADS, ROUNDS, SINGLE_RUNS, SEED = 1024, 2, 12, 8, 0
ABOUT = {"description": "", "version": "", "author": "", "license": ""}


def convert(target_name: str, graph: Graph, contract: Contract, folder: Path) -> tuple[Path, float]:
    """One float32 file, and the seconds of processor time that it took."""
    target = load_target(target_name)
    backend, (_, recipe) = get_backend(target.backend), target.recipe("float32")
    settings = backend.parse_recipe(recipe, target.graph, target.convert)
    path = folder / f"{graph.spec.name}-{contract.sets}{backend.suffix}"
    start = time.process_time()
    backend.convert(graph, Conversion(settings, recipe, contract, ABOUT), path)
    return path, time.process_time() - start


def clicks(contract: Contract, embedding: Array) -> dict[str, Array]:
    """A grid of single clicks, the other slots empty."""
    spec = contract.decoder_batch
    found: dict[str, Array] = {
        item.name: np.zeros(item.shape, np.float32)  # type: ignore[arg-type]
        for item in spec.inputs
    }
    found["image_embeddings"] = embedding
    found["point_labels"][:] = EMPTY
    found["point_labels"][:, 0] = FOREGROUND
    random = np.random.default_rng(SEED)
    found["point_coords"][:, 0] = random.uniform(0, contract.image_size, (contract.sets, 2))
    return found


def measure(single: Session, batch: Session, inputs: Mapping[str, Array]) -> dict[str, Any]:
    """Milliseconds of a prompt both ways, their ratio, and how far the answers are apart."""
    sets = len(inputs["point_labels"])
    alone = [
        {n: v if n == "image_embeddings" else v[i : i + 1] for n, v in inputs.items()}
        for i in range(sets)
    ]
    answers = batch.run(dict(inputs))["low_res_masks"]
    apart = [np.abs(single.run(x)["low_res_masks"] - y).max() for x, y in zip(alone, answers)]  # noqa: B905
    pairs = []
    for _ in range(ROUNDS):
        one = _milliseconds(lambda: [single.run(x) for x in alone[:SINGLE_RUNS]])
        many = _milliseconds(lambda: batch.run(dict(inputs)))
        pairs.append((one / min(sets, SINGLE_RUNS), many / sets))
    ratios = sorted(many / one for one, many in pairs)
    return {
        "single_ms": round(statistics.median(one for one, _ in pairs), 1),
        "batch_ms": round(statistics.median(many for _, many in pairs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "logits_max_abs_error": float(max(apart)),
    }


def _milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def embedding_of(sam: Sam) -> Array:
    """Of a generated scene."""
    from mobilesam_export.backends import reference
    from mobilesam_export.scenes import scene

    contract = Contract(SIDE, 2, load_target("onnx").graph)
    return reference.load(sam, contract).embed(scene(SEED, SIDE * 3 // 4, SIDE)).embeddings


@click.command()
@click.argument("target_name", type=click.Choice(["onnx", "tflite"]))
@click.option("--sets", "counts", type=int, multiple=True, default=(16, 64))
@click.option("--points", type=int, default=6)
def main(target_name: str, counts: tuple[int, ...], points: int) -> None:
    """Measure, and put the rows in place of those of the same files."""
    target = load_target(target_name)
    backend = get_backend(target.backend)
    sam = build_sam(load_checkpoint("demo").state_dict, SIDE)
    embedding = embedding_of(sam)
    contract = Contract(SIDE, points, target.graph)
    with tempfile.TemporaryDirectory() as folder:
        _, decoder = split_graphs(sam, contract)
        path, _ = convert(target_name, decoder, contract, Path(folder))
        single = backend.load(path, decoder.spec, threads=THREADS)
        for sets in counts:
            own = replace(contract, sets=sets)
            module = SetsDecoder(sam, points, sets).eval().requires_grad_(False)
            graph = Graph(own.decoder_batch, module)
            path, seconds = convert(target_name, graph, own, Path(folder))
            batch = backend.load(path, graph.spec, threads=THREADS)
            row = {"backend": target_name, "points": points, "sets": sets}
            row |= {"bytes": path.stat().st_size, "conversion_cpu_s": round(seconds)}
            row |= measure(single, batch, clicks(own, embedding))
            keep(row)
            click.echo(row)


def keep(row: dict[str, Any]) -> None:
    """Add a row to the results."""
    path, key = RESULTS / "prompt_sets.json", ("backend", "points", "sets")
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [old for old in rows if [old[k] for k in key] != [row[k] for k in key]]
    rows = sorted([*rows, row], key=lambda item: [item[k] for k in key])
    write_json(path, {"image_size": SIDE, "threads": THREADS, "rounds": ROUNDS, "rows": rows})


if __name__ == "__main__":
    main()
