"""`mobilesam-export benchmark`: parse, call, print, write."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilesam_export.commands.common import FAILED, JSON, OK, check_outputs, print_json, print_text
from mobilesam_export.errors import InterruptedMeasurement
from mobilesam_export.files import write_json, write_text

if TYPE_CHECKING:
    from mobilesam_export.benchmark.results import Results

COMPONENTS = (
    "encoder",
    "decoder",
    "preprocess",
    "postprocess",
    "click_to_mask",
    "image_to_mask",
)  # as in benchmark.subject, which imports numpy


@click.command("benchmark")
@click.argument("bundles", nargs=-1, metavar="BUNDLE...", type=click.Path(path_type=Path))
@click.option("--device", help="Only this one: cpu, cuda, ... [default: all that are here]")
@click.option(
    "--component",
    "components",
    multiple=True,
    type=click.Choice(COMPONENTS),
    help="Only this part; may be repeated. [default: all]",
)
@click.option("--threads", default=0, help="CPU threads of one run. [default: all cores]")
@click.option("--rounds", default=30, show_default=True, help="Runs of each part that count.")
@click.option("--warmup", default=2, show_default=True, help="Runs before, which do not.")
@click.option(
    "--max-seconds", default=30.0, show_default=True, help="For one part, all bundles together."
)
@click.option("--loads", default=3, show_default=True, help="Fresh sessions, for load and cold.")
@click.option(
    "--pytorch",
    multiple=True,
    metavar="MODE[:PRECISION]",
    help="PyTorch beside the bundles: eager, compiled or cuda-graph, in float32, float16 or "
    "bfloat16. May be repeated.",
)
@click.option("-c", "--checkpoint", help="For --pytorch. [default: what the first bundle names]")
@click.option("--budget", help="Judge by `paper` (8 + 4 ms on one GPU) or a TOML.")
@click.option("--strict", is_flag=True, help="An unverified budget is a failure, too.")
@click.option(
    "--import",
    "imports",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Results of a `device-script`, into the same table. May be repeated.",
)
@click.option("--save", type=click.Path(path_type=Path), help="Keep everything in a .json file.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw a .png.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a .md.")
@JSON
def benchmark_command(
    strict: bool,
    save: Path | None,
    plot: Path | None,
    markdown: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Time BUNDLEs side by side, each file and click to mask.

    Pre- and post-processing too. Runs take turns, and answers are checked against PyTorch's. Load
    time, cold start and warm-up are kept apart. What cannot be run here is called unverified. Exit
    code 3: a budget is not kept, or an answer is wrong.

    \b
    Example:
      mobilesam-export benchmark build/onnx-float32 build/onnx-float16 --threads 2
      mobilesam-export benchmark build/onnx-float32 --budget pixel.toml --save now.json
    """
    from mobilesam_export import packages
    from mobilesam_export.benchmark.run import BenchmarkOptions, run

    check_outputs({".json": save, ".png": plot, ".md": markdown})
    if plot:
        packages.require("matplotlib", extra="measure")
    options = BenchmarkOptions(**values, masks=save is not None)
    results = run(options)
    if as_json:
        print_json(results.as_dict())
    else:
        print_results(results)
    write_results(results, save, plot, markdown)
    if results.partial:
        timed = sum(1 for row in results.rows if row.times_ms)
        raise InterruptedMeasurement(
            f"interrupted; the {timed} of {len(results.rows)} parts that were timed are kept, "
            "marked partial"
        )
    return FAILED if results.failed(strict=strict) else OK


def print_results(results: "Results") -> None:
    """Tables and bars for a terminal."""
    from mobilesam_export.benchmark.text import terminal

    for part in terminal(results):
        print_text(part + "\n")


def write_results(
    results: "Results", save: Path | None, plot: Path | None, markdown: Path | None
) -> None:
    """The files that were asked for.

    Raises:
        OutputError: one cannot be written.
    """
    from mobilesam_export.benchmark.plot import plot_results
    from mobilesam_export.benchmark.text import as_markdown

    if save:
        write_json(save, results.as_dict())
    if markdown:
        write_text(markdown, as_markdown(results))
    if plot and any(row.times_ms for row in results.rows):
        plot_results(results, plot)
