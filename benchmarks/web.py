"""Time of every file in a browser: headless Chromium, WebAssembly, one thread and two.

`python -m benchmarks.web FOLDER` makes in FOLDER what is not there yet (bundles of the demo weights
with `--split-decoder`, the naive form, both runtimes by npm), measures, and with `--save` writes
web.json. It needs npm, and a Chromium on PATH.

`onnx` files run in onnxruntime-web, in the version of the web sample, and `tflite` files in
LiteRT.js. Each bundle has a worker of its own. All encoders take turns with one thread, then with
two, then all other files: in a round every file runs once, in an order drawn by a seed, so that
other work on the machine falls on all alike. A time is from typed arrays to typed arrays, as an app
sees it; beside it stands the time of a processor, all threads together. Before a time counts, the
answers of every file are held to those that the same file gives in Python.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks import speed_files, speed_tables, web_files
from benchmarks.renderer import processor_clock
from benchmarks.rounds import PAUSE_S, Row, interleaved, with_ratios
from benchmarks.speed_files import File
from benchmarks.tables import RESULTS
from benchmarks.web_page import opened_page
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.files import write_json

if TYPE_CHECKING:
    from playwright.sync_api import Page

RESULT = RESULTS / "web.json"
THREADS = (1, 2)
PARTS = {"encoder": ("encoder",), "decoder": ("decoder", "prepare", "decoder_prepared")}
ASK = "([worker, method, parameters]) => ask(worker, method, ...parameters)"


def measure(
    page: "Page", files: Sequence[File], threads: int, served: Path, rounds: int
) -> list[Row]:
    """One row for each file; all are loaded at once.

    Args:
        page: any, of the server of `served`.
        files: that take turns.
        threads: of each runtime.
        served: the page's folder.
        rounds: that count.

    Raises:
        click.ClickException: a file's answers are not those that it gives in Python.
    """
    page.goto("")  # ends the workers of earlier files
    rows = [described(file, threads) | load(page, file, threads, served) for file in files]
    timed = [pair for pair in zip(files, rows, strict=True) if "refused" not in pair[1]]
    elapsed = processor_clock()

    def run(index: int) -> tuple[float, float]:
        file = timed[index][0]
        time.sleep(PAUSE_S)
        before = elapsed()
        taken = float(page.evaluate(ASK, [file.worker, "run", [file.graph]]))
        return taken, elapsed() - before

    for (_, row), times in zip(timed, interleaved(run, len(timed), rounds), strict=True):
        row["times_ms"] = [round(taken, 1) for taken, _ in times]
        row["cpu_ms"] = [round(of_processor, 1) for _, of_processor in times]
    return rows


def described(file: File, threads: int) -> Row:
    """A row without what a browser says."""
    return {
        "runtime": web_files.RUNTIMES[file.target],
        "threads": threads,
        "recipe": file.recipe,
        "graph": file.graph,
        "bytes": file.path.stat().st_size,
    }


def load(page: "Page", file: File, threads: int, served: Path) -> Row:
    """Load a file in its worker and check its answers; the error of each output, or why not."""
    from playwright.sync_api import Error

    name = f"{file.worker}-{file.graph}"
    address = f"../../{file.path.relative_to(served.parents[1])}"
    tensors = [web_files.described(x, served, name) for x in (file.inputs, file.expected)]
    try:
        page.evaluate(ASK, [file.worker, "start", [web_files.RUNTIMES[file.target], threads]])
        errors = page.evaluate(ASK, [file.worker, "load", [file.graph, address, *tensors]])
    except Error as error:
        return {"refused": error.message.split("\n")[0]}
    for key, expected in file.expected.items():
        if not file.is_near(expected, errors[key]):
            raise click.ClickException(f"{name}, {key}: {errors[key]} apart from Python's")
    return {
        "max_abs_error": {key: float(f"{item['max']:.2g}") for key, item in errors.items()},
        "largest_value": {
            key: float(f"{np.abs(value).max():.3g}") for key, value in file.expected.items()
        },
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image-size", "side", default=1024, show_default=True)
@click.option("--rounds", nargs=2, type=int, default=(5, 20), help="Of encoders and of decoders.")
@click.option(
    "--only",
    "targets",
    multiple=True,
    type=click.Choice(list(speed_files.RECIPES)),
    help="A target. [default: all]",
)
@click.option("--float32", "only_float32", is_flag=True, help="No other recipe.")
@click.option("--save", is_flag=True, help=f"Write {RESULT.name}.")
def main(
    folder: Path,
    side: int,
    rounds: tuple[int, int],
    targets: Sequence[str],
    only_float32: bool,
    save: bool,
) -> None:
    """Measure all files in a browser, print the table."""
    folder = folder.absolute()
    versions = web_files.install(folder)
    recipes = {
        target: ("float32",) if only_float32 else speed_files.RECIPES[target]
        for target in targets or speed_files.RECIPES
    }
    files = speed_files.files(folder, side, recipes)
    rows: list[Row] = []
    loads = [os.getloadavg()[0]]
    with opened_page(folder) as page:
        browser = page.context.browser
        for graphs, count in zip(PARTS.values(), rounds, strict=True):
            chosen = [file for file in files if file.graph in graphs]
            for threads in THREADS:
                rows += measure(page, chosen, threads, web_files.page_folder(folder), count)
                loads.append(os.getloadavg()[0])
        result = {
            "image_size": side,
            "browser": f"Chromium {browser.version if browser else ''}",
            "runtimes": versions,
            "rounds": dict(zip(PARTS, rounds, strict=True)),
            "load": [round(value, 1) for value in loads],
            "machine": this_machine().as_dict(),
            "rows": with_ratios(rows),
        }
    click.echo(speed_tables.web(result))
    for row in rows:
        if "refused" in row:
            click.echo(f"{row['runtime']}, {row['recipe']}, {row['graph']}: {row['refused']}")
    if save:
        write_json(RESULT, result)


if __name__ == "__main__":
    main()
