"""Every file of ONNX Runtime and LiteRT beside what users would pick instead, in one run.

`python -m benchmarks.speed FOLDER` makes in FOLDER what is not there yet (bundles of the demo
weights with `--split-decoder`, the naive form, samexporter's encoders), measures, and with `--save`
writes speed.json. `FOLDER` can be that of `benchmarks.web`.

All encoders take turns in one process with two threads, then all other files: in a round every file
runs once, in an order drawn by a seed, so that other work on the machine falls on all alike. The
question is six clicks, which fill the slots. Before a time counts, the answers of every bundle are
held to the naive form's, by the tolerance of its recipe.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks import samexporter_encoder, speed_files, speed_tables
from benchmarks.rounds import PAUSE_S, Row, interleaved, ratio, with_ratios
from benchmarks.speed_files import File, Run, Tensors
from benchmarks.tables import RESULTS
from benchmarks.tflite_cpu import int8_instructions
from mobilesam_export import metrics
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array
from mobilesam_export.files import write_json
from mobilesam_export.scenes import scene

RESULT = RESULTS / "speed.json"
RUNTIMES = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}
ROUNDS = (20, 60)  # of encoders and of all other files
SAMEXPORTER = "samexporter 0.5"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image-size", "side", default=1024, show_default=True)
@click.option("--rounds", nargs=2, type=int, default=ROUNDS, help="Of encoders and of decoders.")
@click.option("--save", is_flag=True, help=f"Write {RESULT.name}.")
def main(folder: Path, side: int, rounds: tuple[int, int], save: bool) -> None:
    """Measure all files, print the table."""
    folder = folder.absolute()
    files = speed_files.files(folder, side, speed_files.RECIPES)
    rows: list[Row] = []
    loads = [os.getloadavg()[0]]
    for encoders, count in zip((True, False), rounds, strict=True):
        chosen = [file for file in files if (file.graph == "encoder") == encoders]
        runs = [(described(file, chosen), file.opened()) for file in chosen]
        if encoders and side == 1024:
            runs += samexporter(folder / "samexporter", side, chosen)
        rows += measure(runs, count)
        loads.append(os.getloadavg()[0])
    result = {
        "image_size": side,
        "threads": speed_files.THREADS,
        "rounds": dict(zip(("encoder", "decoder"), rounds, strict=True)),
        "load": [round(value, 1) for value in loads],
        "machine": this_machine().as_dict(),
        "int8_instructions": int8_instructions(),
        "rows": beside_samexporter(with_ratios(rows)),
    }
    click.echo(speed_tables.beside(result))
    if save:
        write_json(RESULT, result)


def described(file: File, files: Sequence[File]) -> Row:
    """A row without times, after a look at the answers.

    Args:
        file: of the row.
        files: with the naive form of its graph among them.

    Raises:
        click.ClickException: the answers are farther from the naive form's than the recipe allows.
    """
    row = row_of(file.target, file.recipe, file.graph, file.path)
    named = (file.target, "naive", file.graph.removesuffix("_prepared"))
    naive = next((x for x in files if (x.target, x.recipe, x.graph) == named), file)
    if naive is file:  # or there is none, of `prepare`
        return row
    for found, expected in pairs(file.expected, naive.expected):
        error = np.abs(found - expected)
        errors = {"max": float(error.max()), "rms": float(np.sqrt((error**2).mean()))}
        if not file.is_near(expected, errors):
            name = f"{file.worker}, {file.graph}"
            raise click.ClickException(f"{name}: {errors['max']:.3g} off the naive form")
        if file.graph == "encoder":
            row["psnr_db"] = round(metrics.psnr_db(found, expected), 1)
    return row


def row_of(target: str, recipe: str, graph: str, path: Path) -> Row:
    """What a row says of a file."""
    named = {"runtime": RUNTIMES[target], "threads": speed_files.THREADS}
    return {**named, "recipe": recipe, "graph": graph, "bytes": path.stat().st_size}


def pairs(answers: Tensors, expected: Tensors) -> Iterator[tuple[Array, Array]]:
    """Outputs of two files by their shapes: each has one of a shape."""
    for array in answers.values():
        (other,) = [item for item in expected.values() if item.shape == array.shape]
        yield array, other


def samexporter(folder: Path, side: int, files: Sequence[File]) -> list[tuple[Row, Run]]:
    """Its encoders, ready to run on the scene of the others; their answers are told, not judged."""
    folder.mkdir(parents=True, exist_ok=True)
    made = samexporter_encoder.export(load_checkpoint("demo").state_dict, folder)
    image = {"input_image": scene(speed_files.SEED, side, side).astype(np.float32)}
    (naive,) = [file for file in files if file.worker == "onnx-naive"]
    (expected,) = naive.expected.values()
    found = []
    for name, path in made.items():
        recipe = SAMEXPORTER if name == "float32" else f"{SAMEXPORTER}, {name}"
        run = speed_files.open_onnx(path, image)
        (answer,) = run().values()
        psnr = {"psnr_db": round(metrics.psnr_db(answer, expected), 1)}
        found.append((row_of("onnx", recipe, "encoder", path) | psnr, run))
    return found


def measure(runs: Sequence[tuple[Row, Run]], rounds: int) -> list[Row]:
    """The rows with milliseconds of every round, and of a processor."""

    def timed(index: int) -> tuple[float, float]:
        time.sleep(PAUSE_S)
        wall, processor = time.perf_counter(), time.process_time()
        runs[index][1]()
        return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)

    rows = []
    for (row, _), times in zip(runs, interleaved(timed, len(runs), rounds), strict=True):
        wall, processor = ([round(value, 2) for value in kind] for kind in zip(*times, strict=True))
        rows.append(row | {"times_ms": wall, "cpu_ms": processor})
    return rows


def beside_samexporter(rows: Sequence[Row]) -> list[Row]:
    """Rows with medians of the rounds' ratios to samexporter's float32 encoder, of encoders."""
    base = next((row["times_ms"] for row in rows if row["recipe"] == SAMEXPORTER), None)
    return [
        row | {"ratio_to_samexporter": ratio(row["times_ms"], base)}
        if base and row["graph"] == "encoder"
        else row
        for row in rows
    ]


if __name__ == "__main__":
    main()
