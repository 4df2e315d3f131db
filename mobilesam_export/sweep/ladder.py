"""A ladder from options to rungs: sizes and shapes of one recipe, by masks, time, memory and size.

The truth is PyTorch on the square of 1024, on which MobileSAM was trained.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mobilesam_export.backends import get_backend, reference
from mobilesam_export.benchmark.figures import bundle_figures
from mobilesam_export.benchmark.run import BenchmarkOptions
from mobilesam_export.benchmark.run import run as benchmark
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import DEFAULT_POINTS, Contract, plain_contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import MeasurementError, UsageError
from mobilesam_export.evaluation import dataset
from mobilesam_export.evaluation.candidates import PYTORCH, bundle_candidate
from mobilesam_export.evaluation.scores import Candidate, evaluate_images, interface
from mobilesam_export.files import make_folder, read_json, write_json, write_whole
from mobilesam_export.model import build_sam
from mobilesam_export.pipeline import check, export
from mobilesam_export.progress import items_bar
from mobilesam_export.sweep.points import Point
from mobilesam_export.sweep.rungs import LadderOptions, Rung, pareto
from mobilesam_export.target import load_target

TRAINED = 1024  # side of the square that the model was trained on
SCENES = Frame(768, 1024)  # as many a phone's photograph
KINDS = ("click", "clicks", "box")
PLOT, FIGURES = "ladder.png", "ladder.json"


def run(options: LadderOptions) -> list[Rung]:
    """Export, evaluate and time every size; what an earlier call has done of it is kept.

    Writes `ladder.json` and `ladder.png` into the folder of the bundles.

    Raises:
        MobileSamExportError: an option is wrong, or a stage fails; what is done stays.
    """
    points = options.points()
    for point in points:  # all of them before the first takes its time
        check(point.job(options.out)).contract.check_apart("ladder times")
    backend = get_backend(load_target(points[0].target).backend)
    if options.max_ms is not None and (reason := backend.why_unavailable()):
        raise UsageError(f"--max-ms: times of {options.target} are not to be had here: {reason}")
    images = _images(options)
    make_folder(options.out)
    found = []
    with items_bar("Climbing", len(points)) as advance:
        for point in points:
            found.append(_masks(options, point, images))
            advance()
    bundles = [open_bundle(options.out / point.name) for point in points]
    times = _times(options, bundles)
    rungs = [
        _rung(point, bundle, masks, times)
        for point, bundle, masks in zip(points, bundles, found, strict=True)
    ]
    write_json(options.out / FIGURES, {"rungs": [rung.as_dict() for rung in rungs]})
    plot(rungs, options.out / PLOT)
    return rungs


def _images(options: LadderOptions) -> dataset.Dataset:
    """Without masks: the truth is what the square finds."""
    if options.images:
        return dataset.image_folder(options.images)
    scenes = dataset.held_out_scenes(options.scenes, SCENES)
    return replace(scenes, read=lambda name: replace(scenes.read(name), masks=None))


@cache
def _square(source: str, contract: Contract) -> Candidate:
    """PyTorch on the square, loaded when it is first needed."""
    checkpoint = load_checkpoint(source)
    predictor = reference.load(build_sam(checkpoint.state_dict, TRAINED), contract)
    return Candidate(PYTORCH, checkpoint.provenance.weights_sha256, predictor, 0)


def _masks(options: LadderOptions, point: Point, images: dataset.Dataset) -> Mapping[str, Any]:
    """Export a size and compare its masks, unless an earlier call has."""
    path = options.out / f"{point.name}.masks.json"
    asked = json.loads(json.dumps(options.asked()))
    if path.exists() and (options.out / point.name).exists():
        kept = read_json(path, MeasurementError)
        if isinstance(kept, Mapping) and kept.get("asked") == asked:
            return kept
    outcome = export(point.job(options.out))
    bundle = bundle_candidate(point.name, open_bundle(options.out / point.name))
    names = images.names[: options.limit]
    means = []
    contract, plain = bundle.predictor.contract, plain_contract(TRAINED, DEFAULT_POINTS)
    truth = replace(contract, image_size=TRAINED) if contract.dynamic else plain
    references = {interface(contract): _square(options.checkpoint, truth)}
    for record in evaluate_images([bundle], references, images, names):
        for answers in record["candidates"].values():
            means += [
                {
                    kind: sum(item[kind] for item in answers["objects"]) / len(answers["objects"])
                    for kind in KINDS
                }
            ]
    if not means:
        raise MeasurementError("PyTorch finds no objects in these images; give others by --images")
    found = {
        "asked": asked,
        "status": str(outcome.report.status),
        "mean": {kind: sum(item[kind] for item in means) / len(means) for kind in KINDS},
        "worst": min(sum(item.values()) / len(item) for item in means),
    }
    write_json(path, found)
    return found


def _times(options: LadderOptions, bundles: Sequence[Bundle]) -> Mapping[tuple[str, str], float]:
    """Median milliseconds by bundle and file, all in turn; none without a runtime to be timed."""
    if bundles[0].why_not_run():
        return {}
    results = benchmark(
        BenchmarkOptions(
            bundles=tuple(bundle.folder for bundle in bundles),
            components=("encoder", "decoder"),
            threads=options.threads,
            rounds=options.rounds,
            loads=1,
            max_seconds=600.0,
        )
    )
    return {
        (row.subject, row.component): row.latency.median_ms
        for row in results.rows
        if row.latency is not None and not row.unverified
    }


def _rung(
    point: Point,
    bundle: Bundle,
    masks: Mapping[str, Any],
    times: Mapping[tuple[str, str], float],
) -> Rung:
    figures = bundle_figures(bundle)
    return Rung(
        size=str(point.image_size),
        bundle=point.name,
        status=masks["status"],
        mean=masks["mean"],
        worst=masks["worst"],
        encoder_ms=times.get((point.name, "encoder")),
        decoder_ms=times.get((point.name, "decoder")),
        macs=figures["encoder"]["macs"],
        peak_bytes=figures["encoder"]["peak_bytes"],
        file_bytes=sum(entry.bytes for entry in bundle.graph_files.values()),
    )


def plot(rungs: Sequence[Rung], path: Path) -> None:
    """Masks over cost as a PNG; the line joins the sizes that no other beats.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    known = [rung for rung in rungs if rung.cost is not None]
    timed = all(rung.first_mask_ms is not None for rung in known)
    scale = 1 if timed else 1e9
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    panel = figure.subplots()
    best = pareto(rungs)
    panel.plot([(r.cost or 0) / scale for r in best], [r.iou for r in best], color="#3b82c4")
    for rung in known:
        place = ((rung.cost or 0) / scale, rung.iou)
        panel.plot(*place, "o", color="#3b82c4" if rung in best else "#9aa5b1")
        panel.annotate(rung.size, place, xytext=(6, -12), textcoords="offset points")
    panel.set_xlabel("encoder and decoder, ms" if timed else "products of the encoder, GMACs")
    panel.set_ylabel(f"mask IoU with PyTorch at {TRAINED}")
    panel.set_xlim(left=0)
    panel.margins(x=0.15, y=0.15)
    for edge in ("top", "right"):
        panel.spines[edge].set_visible(False)
    with write_whole(path) as file:
        figure.savefig(file, dpi=120)
