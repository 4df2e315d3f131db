"""Everything mode beside the official generator: the same masks, and in what time?

    mobilesam-export onnx -c demo -r float32 --points 2 --prompt-sets 64 -o build/onnx-sets
    python -m benchmarks.official_generator MOBILESAM build/onnx-sets --scenes 20

MOBILESAM is a checkout of ChaoningZhang/MobileSAM, whose `SamAutomaticMaskGenerator` runs with our
demo weights in PyTorch; it needs torchvision and timm. Both have the same grid and thresholds; the
demo weights are less sure of themselves than the defaults ask. On each held-out scene: the official
generator; ours with one call of the decoder per point, with `decoder_batch`, and hierarchical. A
mask is the same as another of IoU 0.95 and more. Recall is of the scene's objects, averaged over
IoU of 0.5 to 0.95. Scenes that are there are not measured again.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tables import RESULTS
from mobilesam_export.benchmark.machine import this_machine
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.evaluation.dataset import held_out_scenes
from mobilesam_export.everything.masks import find_masks
from mobilesam_export.everything.settings import Settings
from mobilesam_export.files import write_json
from mobilesam_export.predictor import Predictor

RESULT = RESULTS / "official_generator.json"
SAME = 0.95
THRESHOLDS = np.arange(0.5, 0.951, 0.05)  # COCO's
Masks = NDArray[np.bool_]  # (n, height, width)


def ious(masks: Masks, others: Masks) -> NDArray[np.float64]:
    """(n, m): IoU of each mask with each of the others."""
    flat, other = (x.reshape(len(x), -1).astype(np.float32) for x in (masks, others))
    shared = (flat @ other.T).astype(np.float64)  # whole numbers below 2**24 are exact
    union = flat.sum(1)[:, None] + other.sum(1)[None] - shared
    return np.asarray(shared / union)


def share_found(masks: Masks, others: Masks) -> float:
    """Share of masks of which the others have the same; 1 where there are none."""
    if not len(masks):
        return 1.0
    return float((ious(masks, others).max(1) >= SAME).mean()) if len(others) else 0.0


def average_recall(truth: Masks, found: Masks) -> float:
    """Share of objects with a mask of enough IoU, averaged over THRESHOLDS."""
    best = ious(truth, found).max(1) if len(found) else np.zeros(len(truth))
    return float((best[:, None] >= THRESHOLDS - 1e-9).mean())


def official_generator(checkout: Path, settings: Settings) -> Callable[[NDArray[np.uint8]], Masks]:
    """The authors' code with our demo weights."""
    sys.path.insert(0, str(checkout))
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry  # type: ignore[import-not-found]

    sam = sam_model_registry["vit_t"](checkpoint=None)
    sam.load_state_dict(dict(load_checkpoint("demo").state_dict))
    generator = SamAutomaticMaskGenerator(
        sam.eval(),  # after loading: it caches the biases
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        box_nms_thresh=settings.box_nms_thresh,
    )

    def run(image: NDArray[np.uint8]) -> Masks:
        found = generator.generate(image)
        return stacked([item["segmentation"] for item in found], image)

    return run


def ours(predictor: Predictor, settings: Settings) -> Callable[[NDArray[np.uint8]], Masks]:
    """Everything mode, encoding included."""

    def run(image: NDArray[np.uint8]) -> Masks:
        found = find_masks(predictor, predictor.embed(image), settings, lambda: None)
        return stacked([item.mask for item in found], image)

    return run


def stacked(masks: Sequence[Masks], image: NDArray[np.uint8]) -> Masks:
    return np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), np.bool_)


def timed(
    run: Callable[[NDArray[np.uint8]], Masks], image: NDArray[np.uint8]
) -> tuple[float, Masks]:
    start = time.perf_counter()
    masks = run(image)
    return time.perf_counter() - start, masks


def measure(
    ways: dict[str, Callable[[NDArray[np.uint8]], Masks]], image: NDArray[np.uint8], truth: Masks
) -> dict[str, Any]:
    """One scene's figures by way; how many masks it has in common with the official generator."""
    found = {name: timed(run, image) for name, run in ways.items()}
    official = found["official"][1]
    return {
        name: {
            "seconds": round(seconds, 2),
            "masks": len(masks),
            "of_official": share_found(official, masks),
            "in_official": share_found(masks, official),
            "average_recall": average_recall(truth, masks),
        }
        for name, (seconds, masks) in found.items()
    }


@click.command()
@click.argument("checkout", type=click.Path(path_type=Path, exists=True))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--scenes", default=20)
@click.option("--threads", default=2)
@click.option("--points-per-side", default=32)
@click.option("--pred-iou-thresh", default=0.5)
@click.option("--stability-score-thresh", default=0.9)
def main(checkout: Path, bundle: Path, scenes: int, threads: int, **values: float) -> None:
    """Measure the scenes that are missing, and summarize all."""
    settings = Settings(**values)  # type: ignore[arg-type]
    torch.set_num_threads(threads)
    opened = open_bundle(bundle)
    batch = opened.predictor(threads=threads, batch=True)
    ways = {
        "official": official_generator(checkout, settings),
        "one call per point": ours(replace(batch, decoder_batch=None), settings),
        "decoder_batch": ours(batch, settings),
        "hierarchical": ours(batch, replace(settings, hierarchical=True)),
    }
    contract = opened.contract
    about = {"prompt_sets": contract.sets, "points": contract.points, "threads": threads}
    dataset = held_out_scenes(scenes, contract.size)
    kept = json.loads(RESULT.read_text())["scenes"] if RESULT.exists() else {}
    for name in dataset.names:
        if name in kept:
            continue
        sample = dataset.read(name)
        kept[name] = measure(ways, sample.image, np.asarray(sample.masks))
        click.echo(f"{name} {json.dumps(kept[name])}")
        write_json(RESULT, summary(kept, {**about, "settings": asdict(settings)}))


def summary(kept: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Means over the scenes, with seconds as a share of one call per point's."""
    rows = list(kept.values())
    means = {
        way: {key: float(np.mean([row[way][key] for row in rows])) for key in rows[0][way]}
        for way in rows[0]
    }
    for way, figures in means.items():
        pairs = [(row[way]["seconds"], row["one call per point"]["seconds"]) for row in rows]
        figures["time_ratio"] = float(np.median([seconds / single for seconds, single in pairs]))
    return {**about, "machine": this_machine().as_dict(), "means": means, "scenes": kept}


if __name__ == "__main__":
    main()
