"""`compare` from paths to exit code: open, gate, time, print, keep."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mobilesam_export import packages, tables
from mobilesam_export.backends import get_backend
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.benchmark.results import check_output, read_results, write_json, write_text
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.benchmark.timing import keep_freed_memory
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.bundle.sessions import load_files
from mobilesam_export.compare import text
from mobilesam_export.compare.decision import Decision, Rule, Verdict
from mobilesam_export.compare.gates import (
    DEFAULT_MASK_IOU,
    LIMITS,
    MASK_IOU,
    Figures,
    Gate,
    Masks,
    bundle_figures,
    bundle_masks,
    judge_figures,
    judge_masks,
    unpack_masks,
)
from mobilesam_export.compare.junit import junit
from mobilesam_export.compare.pairs import (
    Comparison,
    Pairs,
    Plan,
    check_comparable,
    compare_times,
    component_inputs,
    not_comparable,
    opener,
)
from mobilesam_export.errors import BudgetError, InterruptedMeasurement, UsageError
from mobilesam_export.progress import step

TIME = "time"
OK, FAILED = 0, 3


@dataclass(frozen=True)
class Base:
    """What the candidate is held to.

    Attributes:
        name: for people.
        figures: by graph.
        masks: as far as there are any.
        opened: the bundle, or None if this is a stored baseline.
        why_no_times: for a stored baseline.
    """

    name: str
    figures: Mapping[str, Figures]
    masks: Masks
    opened: Bundle | None
    why_no_times: str = ""


def run(base_path: Path, candidate_path: Path, options: dict[str, Any]) -> int:
    """Do the whole command; see `commands.compare`.

    Raises:
        MobileSamExportError: of whatever cannot be meant or done.
    """
    limits = parse_limits(options["limits"])
    _check(options)
    with step("Checking the bundles' hashes"):
        candidate = open_bundle(candidate_path)
        base = open_base(base_path, candidate)
    with step("Counting what is in the files"):
        gates = judge_figures(base.figures, bundle_figures(candidate), limits)
    with step("Comparing masks"):
        gates.append(_gate_masks(base, candidate, limits[MASK_IOU]))
    decisions: dict[str, Decision] = {}
    pairs: dict[str, Pairs] = {}
    partial = False
    if not options["no_times"]:
        partial = _times(base, candidate, options, limits[TIME], (decisions, pairs))
    comparison = Comparison(decisions, pairs, gates, partial)
    return publish(comparison, (base.name, candidate_path.resolve().name), options)


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER, as on the command line, over the defaults.

    Raises:
        UsageError: there is no such limit, or its number cannot be meant.
    """
    limits = {TIME: Rule().limit, **LIMITS, MASK_IOU: DEFAULT_MASK_IOU}
    for item in texts:
        name, _, number = item.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        least, most = (0.0, 1.0) if name == MASK_IOU else (1.0, float("inf"))
        right = least <= value <= most and value < float("inf") and (name != TIME or value > 1)
        if name not in limits or not right:
            raise UsageError(
                f"--limit {item}: expected NAME=RATIO of 1 or more (time: above 1; mask_iou: 0 to "
                f"1) with one of: {', '.join(limits)}"
            )
        limits[name] = value
    return limits


def _check(options: Mapping[str, Any]) -> None:
    packages.require("scipy", extra="measure")  # scenes, and the interval of the decision
    if options["max_pairs"] < 1:
        raise UsageError(f"--max-pairs is {options['max_pairs']}; expected 1 or more")
    if options["threads"] < 0:
        raise UsageError(f"--threads is {options['threads']}; expected 0 or more")
    if not options["max_seconds"] > 0:
        raise UsageError(f"--max-seconds is {options['max_seconds']:g}; expected more than 0")
    for name, suffix in (("save", ".json"), ("markdown_path", ".md"), ("junit_path", ".xml")):
        check_output(options[name], suffix)


def open_base(path: Path, candidate: Bundle) -> Base:
    """A bundle, or the bundle of the candidate's target in a file of `benchmark --save`.

    Raises:
        BundleError, BudgetError: it cannot be read. UsageError: it is of another kind.
    """
    if path.suffix == ".json":
        return _stored(path, candidate)
    opened = open_bundle(path)
    check_comparable(opened, candidate)
    return Base(path.resolve().name, bundle_figures(opened), {}, opened)


def _stored(path: Path, candidate: Bundle) -> Base:
    found = read_results(path)
    wanted = (candidate.target, candidate.contract.image_size, candidate.contract.points)
    bundles = {
        name: item
        for name, item in found.get("bundles", {}).items()
        if (item.get("target"), item.get("image_size"), item.get("points")) == wanted
    }
    same_recipe = {n: b for n, b in bundles.items() if b.get("recipe") == candidate.recipe}
    bundles = same_recipe or bundles
    if len(bundles) != 1:
        raise BudgetError(
            f"{path} has {len(bundles)} bundles to compare with a {candidate.target} bundle of "
            f"image size {candidate.contract.image_size}; expected exactly one"
        )
    ((name, item),) = bundles.items()
    if not isinstance(item.get("figures"), dict) or set(item["figures"]) != set(GRAPHS):
        raise BudgetError(f"{path} is damaged: the figures of {name} are missing")
    here = found.get("machine", {}).get("fingerprint") == this_machine().fingerprint
    where = "an earlier time" if here else "another machine"
    reason = f"the base's times are from {where}; give its bundle to compare times"
    masks = unpack_masks(item.get("masks", {}))
    return Base(f"{name} of {path.name}", item["figures"], masks, None, reason)


def _gate_masks(base: Base, candidate: Bundle, limit: float) -> Gate:
    reason = get_backend(candidate.backend).why_unavailable()
    if reason:
        return Gate("bundle", MASK_IOU, None, None, limit, "unverified", reason)
    found = _masks(candidate)
    return judge_masks(_masks(base.opened) if base.opened else base.masks, found, limit)


def _masks(opened: Bundle) -> Masks:
    sessions = load_files(opened.folder, get_backend(opened.backend), opened.contract)
    return bundle_masks(sessions, opened.contract)


def _times(
    base: Base,
    candidate: Bundle,
    options: Mapping[str, Any],
    limit: float,
    into: tuple[dict[str, Decision], dict[str, Pairs]],
) -> bool:
    """Fill decisions and pairs; whether Ctrl-C ended it."""
    decisions, pairs = into
    components = options["components"] or GRAPHS
    devices = get_backend(candidate.backend).devices()
    device = options["device"] or next(iter(devices))
    reason = base.why_no_times or devices.get(device, f"no device {device!r}")
    if reason or base.opened is None:
        decisions.update({name: not_comparable(reason) for name in components})
        pairs.update({name: Pairs() for name in components})
        return False
    keep_freed_memory()
    rule, left = Rule(limit=limit, max_pairs=options["max_pairs"]), options["max_seconds"]
    for number, name in enumerate(components):
        pairs[name], start = Pairs(), time.perf_counter()
        plan = Plan(rule, max_seconds=left / (len(components) - number))
        opens = (
            opener(base.opened, name, device, options["threads"]),
            opener(candidate, name, device, options["threads"]),
        )
        try:
            with step(f"Timing the {name}"):
                inputs = component_inputs(candidate, name)
                decisions[name] = compare_times(opens, inputs, plan, pairs[name])
            left -= time.perf_counter() - start
        except KeyboardInterrupt:
            done = sum(len(block) for block in pairs[name].blocks)
            decisions[name] = Decision(
                Verdict.INCONCLUSIVE, pairs=done, reason="interrupted before a verdict"
            )
            return True
    return False


def publish(comparison: Comparison, names: tuple[str, str], options: Mapping[str, Any]) -> int:
    """Print, write what was asked for, and give the exit code.

    Raises:
        InterruptedMeasurement: it is partial; everything has been written by then.
    """
    title = f"{names[1]} against {names[0]}"
    kept = {
        "kind": "mobilesam-export compare",
        "base": names[0],
        "candidate": names[1],
        "machine": this_machine().as_dict(),
        "threads": options["threads"],
        **comparison.as_dict(),
    }
    if options["as_json"]:
        click.echo(json.dumps(kept, indent=2, allow_nan=False))
    else:
        _print(comparison, title)
    if options["save"]:
        write_json(options["save"], kept)
    if options["markdown_path"]:
        write_text(options["markdown_path"], text.comparison_markdown(comparison, title))
    if options["junit_path"]:
        write_text(options["junit_path"], junit(comparison, title))
    if comparison.partial:
        done = sum(len(block) for p in comparison.pairs.values() for block in p.blocks)
        raise InterruptedMeasurement(f"interrupted; {done} pairs are kept, marked partial")
    return FAILED if comparison.failed else OK


def _print(comparison: Comparison, title: str) -> None:
    partial = " (PARTIAL, it was interrupted)" if comparison.partial else ""
    click.echo(f"{title}{partial}\n")
    if comparison.decisions:
        click.echo(tables.columns(text.decision_table(comparison.decisions)) + "\n")
    click.echo(tables.columns(text.gate_table(comparison.gates)) + "\n")
    failed = comparison.failed
    word = click.style(f"FAILED: {'; '.join(failed)}", fg="red") if failed else ""
    click.echo(word or click.style("passed", fg="green"))
