"""`mobilesam-export benchmark`: parse, measure, judge, print, keep."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mobilesam_export.benchmark.budget import Budget
    from mobilesam_export.benchmark.measure import Subject
    from mobilesam_export.benchmark.results import Results
    from mobilesam_export.bundle.manifest import Bundle

COMPONENTS = (
    "encoder",
    "decoder",
    "preprocess",
    "postprocess",
    "click_to_mask",
    "picture_to_mask",
)  # as in latency.subject, which imports numpy


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
    "ways",
    multiple=True,
    metavar="MODE[:PRECISION]",
    help="PyTorch beside the bundles: eager, compiled or cuda-graph, in float32, float16 or "
    "bfloat16. May be repeated.",
)
@click.option("-c", "--checkpoint", help="For --pytorch. [default: what the first bundle names]")
@click.option("--budget", "budget_name", help="Judge by `paper` (8 + 4 ms on one GPU) or a TOML.")
@click.option("--strict", is_flag=True, help="An unverified budget is a failure, too.")
@click.option(
    "--import",
    "imports",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Results of a `device-script`, into the same table. May be repeated.",
)
@click.option("--save", type=click.Path(path_type=Path), help="Keep everything in a .json file.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Draw a .png.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="Write a .md.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def benchmark_command(bundles: tuple[Path, ...], **options: Any) -> int:
    """Time BUNDLEs side by side: each file, pre- and post-processing, and click to mask.

    Runs take turns, and answers are checked against PyTorch's. Load time, cold start and warm-up
    are kept apart. What cannot be run here is called unverified. Exit code 3: a budget is not
    kept, or an answer is wrong.

    \b
    Example:
      mobilesam-export benchmark build/onnx-float32 build/onnx-float16 --threads 2
      mobilesam-export benchmark build/onnx-float32 --budget pixel.toml --save now.json
    """
    from mobilesam_export import packages
    from mobilesam_export.benchmark import baseline
    from mobilesam_export.benchmark.budget import load_budget

    _check(bundles, options)
    if options["plot_path"]:
        packages.require("matplotlib", extra="measure")
    budget = load_budget(options["budget_name"]) if options["budget_name"] else None
    imported = [row for path in options["imports"] for row in baseline.import_rows(path)]
    results = _measure(bundles, options, imported, budget)
    return baseline.publish(results, budget, options)


def _check(bundles: tuple[Path, ...], options: dict[str, Any]) -> None:
    """Refuse what cannot be meant before anything takes its time.

    Raises:
        UsageError, BudgetError: with what to do.
    """
    from mobilesam_export.benchmark.results import check_output
    from mobilesam_export.errors import UsageError

    if not bundles and not options["imports"]:
        raise UsageError("nothing to measure: give at least one BUNDLE or --import FILE")
    for name, least in (("rounds", 1), ("loads", 1), ("warmup", 0), ("threads", 0)):
        if options[name] < least:
            raise UsageError(f"--{name} is {options[name]}; expected {least} or more")
    if not options["max_seconds"] > 0:
        raise UsageError(f"--max-seconds is {options['max_seconds']:g}; expected more than 0")
    if options["ways"] and not bundles:
        raise UsageError("--pytorch measures the checkpoint of a bundle: give a BUNDLE, too")
    if len({path.resolve() for path in bundles}) < len(bundles):
        raise UsageError("the same BUNDLE is given twice; `compare` runs a bundle against itself")
    for option, suffix in (("save", ".json"), ("plot_path", ".png"), ("markdown_path", ".md")):
        check_output(options[option], suffix)


def _measure(
    bundles: tuple[Path, ...],
    options: dict[str, Any],
    imported: list[Any],
    budget: "Budget | None",
) -> "Results":
    from mobilesam_export.benchmark import baseline, measure
    from mobilesam_export.benchmark.machine import usable_cores
    from mobilesam_export.benchmark.timing import Schedule, keep_freed_memory
    from mobilesam_export.bundle import manifest
    from mobilesam_export.progress import step

    with step("Checking the bundles' hashes"):
        opened = [manifest.open_bundle(path) for path in bundles]
    threads = options["threads"] or usable_cores()
    subjects = [
        subject
        for item in opened
        for subject in measure.bundle_subjects(item, options["device"], threads)
    ]
    subjects += _pytorch(opened, options, threads)
    chosen = measure.Options(
        components=options["components"] or COMPONENTS,
        schedule=Schedule(options["warmup"], options["rounds"], options["max_seconds"]),
        loads=options["loads"],
        threads=threads,
    )
    kept = keep_freed_memory()
    rows, partial = measure.measure(subjects, chosen)
    results = baseline.complete(
        [*rows, *imported], opened, chosen, budget, partial=partial, memory_kept=kept
    )
    return baseline.add_masks(results, opened) if options["save"] and not partial else results


def _pytorch(opened: "list[Bundle]", options: dict[str, Any], threads: int) -> "list[Subject]":
    if not options["ways"]:
        return []
    from mobilesam_export.benchmark.pytorch_subjects import parse_ways, pytorch_subjects

    ways = parse_ways(options["ways"], options["device"] or "cpu")
    return pytorch_subjects(opened[0], options["checkpoint"], ways, threads)
