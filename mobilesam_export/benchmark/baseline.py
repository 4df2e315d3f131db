"""What comes after measuring: roofline, budget, baseline, and every form of output."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from mobilesam_export import tables
from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark import text
from mobilesam_export.benchmark.budget import Budget, Judgement, Verdict, judge
from mobilesam_export.benchmark.device_results import import_rows
from mobilesam_export.benchmark.machine import Machine, this_machine
from mobilesam_export.benchmark.measure import Options
from mobilesam_export.benchmark.results import Results, Row, write_json, write_text
from mobilesam_export.benchmark.roofline import (
    Peak,
    Roofline,
    gpu_peak,
    measured_cpu_peak,
    roofline,
)
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.bundle.sessions import load_files
from mobilesam_export.compare.gates import bundle_masks, bundle_reports, file_figures, pack_masks
from mobilesam_export.errors import InterruptedMeasurement
from mobilesam_export.inspection.report import GraphReport
from mobilesam_export.progress import step

__all__ = ["complete", "import_rows", "publish"]
OK, FAILED = 0, 3


def complete(
    rows: Sequence[Row],
    opened: Sequence[Bundle],
    options: Options,
    budget: Budget | None,
    *,
    partial: bool,
    memory_kept: bool,
) -> Results:
    """Add to the rows what they are held against."""
    machine = this_machine()
    sections: dict[str, Any] = {}
    if opened and not partial:
        with step("Counting MACs and bytes, measuring the machine's peak"):
            reports = {item.folder.resolve().name: bundle_reports(item) for item in opened}
            lines = rooflines(rows, reports, opened, machine, budget, options.threads)
        sections["roofline"] = [asdict(line) for line in lines]
        sections["bundles"] = {
            item.folder.resolve().name: _identity(item, reports[item.folder.resolve().name])
            for item in opened
        }
    if budget:
        judgements = judge(budget, rows, (machine.cpu, machine.gpu))
        sections["budget"] = {
            "name": budget.name,
            "judgements": [asdict(judgement) for judgement in judgements],
        }
    described = {**asdict(options), "freed_memory_kept": memory_kept}
    return Results(tuple(rows), machine.as_dict(), described, partial, sections)


def _identity(opened: Bundle, reports: Mapping[str, GraphReport]) -> dict[str, Any]:
    return {
        "target": opened.target,
        "recipe": opened.recipe,
        "image_size": opened.contract.image_size,
        "points": opened.contract.points,
        "weights_sha256": opened.provenance.weights_sha256,
        "figures": {graph: file_figures(report) for graph, report in reports.items()},
    }


def rooflines(
    rows: Sequence[Row],
    reports: Mapping[str, Mapping[str, GraphReport]],
    opened: Sequence[Bundle],
    machine: Machine,
    budget: Budget | None,
    threads: int,
) -> list[Roofline]:
    """The bound of every file of a bundle that was measured."""
    measured: Peak | None = None
    lines = []
    precisions = {b.folder.resolve().name: b.manifest["recipe"]["activations"] for b in opened}
    for row in rows:
        if row.component not in GRAPHS or row.subject not in reports or not row.latency:
            continue
        peak = None
        if budget and budget.peak and budget.device == row.device:
            peak = Peak(budget.peak["gflops"], budget.peak["gb_per_s"], f"budget {budget.name}")
        elif row.device in ("cuda", "tensorrt"):
            peak = gpu_peak(machine.gpu, precisions[row.subject])
        elif row.device == "cpu" and not row.machine:
            measured = measured or measured_cpu_peak(threads)
            peak = measured
        where = (row.subject, row.component, row.device)
        report = reports[row.subject][row.component]
        lines.append(roofline(where, report, peak, row.latency.median_ms))
    return lines


def add_masks(results: Results, opened: Sequence[Bundle]) -> Results:
    """What a stored baseline needs beside figures: the masks that each bundle answers."""
    bundles = dict(results.sections.get("bundles", {}))
    for item in opened:
        name, backend = item.folder.resolve().name, get_backend(item.backend)
        if name in bundles and not backend.why_unavailable():
            sessions = load_files(item.folder, backend, item.contract)
            masks = pack_masks(bundle_masks(sessions, item.contract))
            bundles[name] = {**bundles[name], "masks": masks}
    return replace(results, sections={**results.sections, "bundles": bundles})


def publish(results: Results, budget: Budget | None, options: Mapping[str, Any]) -> int:
    """Print, write what was asked for, and give the exit code.

    Raises:
        InterruptedMeasurement: it is partial; everything has been written by then.
        BudgetError: a file cannot be written.
    """
    judgements = [
        Judgement(**item) for item in results.sections.get("budget", {}).get("judgements", ())
    ]
    if options["as_json"]:
        write_stdout(results)
    else:
        print_results(results, judgements)
    if options["save"]:
        write_json(options["save"], results.as_dict())
    if options["markdown_path"]:
        write_text(options["markdown_path"], as_markdown(results, judgements))
    if options["plot_path"] and any(row.times_ms for row in results.rows):
        _plot(results, budget, options["plot_path"])
    if results.partial:
        done = sum(1 for row in results.rows if row.times_ms)
        raise InterruptedMeasurement(
            f"interrupted; the {done} of {len(results.rows)} parts that were timed are kept, "
            "marked partial"
        )
    return exit_code(results.rows, judgements, strict=options["strict"])


def exit_code(rows: Sequence[Row], judgements: Sequence[Judgement], *, strict: bool) -> int:
    """3 for a wrong answer or a budget that is not kept; unverified is 3 only if strict."""
    bad = {Verdict.FAIL, Verdict.UNVERIFIED} if strict else {Verdict.FAIL}
    failed = any(row.wrong for row in rows) or any(j.verdict in bad for j in judgements)
    return FAILED if failed else OK


def write_stdout(results: Results) -> None:
    """One JSON object."""
    import json

    click.echo(json.dumps(results.as_dict(), indent=2, allow_nan=False))


def print_results(results: Results, judgements: Sequence[Judgement]) -> None:
    """Tables and bars for a terminal."""
    parts = [_headline(results)]
    if any(row.latency for row in results.rows):
        parts += [tables.columns(text.latency_table(results.rows)), text.bars(results.rows)]
    parts.append("\n".join(text.unverified_lines(results.rows)))
    if lines := _rooflines(results):
        parts.append(tables.columns(text.roofline_table(lines)) + f"\npeak: {_peaks(lines)}")
    if judgements:
        parts.append(tables.columns(text.budget_table(judgements)))
    encoding = sys.stdout.encoding or "utf-8"  # the bars are no ASCII
    for part in filter(None, parts):
        click.echo(part.encode(encoding, "replace").decode(encoding) + "\n")


def as_markdown(results: Results, judgements: Sequence[Judgement]) -> str:
    """The same tables for GitHub."""
    parts = [_headline(results), tables.markdown(text.latency_table(results.rows))]
    parts += [f"- {line}" for line in text.unverified_lines(results.rows)]
    if lines := _rooflines(results):
        parts += [tables.markdown(text.roofline_table(lines)), f"Peak: {_peaks(lines)}"]
    if judgements:
        parts.append(tables.markdown(text.budget_table(judgements)))
    return "\n\n".join(parts) + "\n"


def _headline(results: Results) -> str:
    machine, options = results.machine, results.options
    partial = "PARTIAL, it was interrupted. " if results.partial else ""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return (
        f"{partial}{machine['cpu']}, {machine['cores']} cores{gpu}; "
        f"{options['threads']} threads for each run"
    )


def _rooflines(results: Results) -> list[Roofline]:
    return [Roofline(**item) for item in results.sections.get("roofline", ())]


def _peaks(lines: Sequence[Roofline]) -> str:
    return "; ".join(dict.fromkeys(line.peak for line in lines))


def _plot(results: Results, budget: Budget | None, path: Path) -> None:
    from mobilesam_export.benchmark.plot import plot

    limits = budget.limits.get("median_ms", {}) if budget else {}
    devices = {row.device for row in results.rows if row.times_ms}
    shown = limits if budget and budget.device in devices else {}
    plot(results.rows, shown, path, _headline(results))
