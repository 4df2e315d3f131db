"""A click on each point of a grid, and of all the answers those that are sure and different.

The rules and defaults are those of `SamAutomaticMaskGenerator` in SAM's repository
(facebookresearch/segment-anything, automatic_mask_generator.py), for its single crop, the image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.errors import UsageError
from mobilesam_export.everything import runs
from mobilesam_export.everything.settings import Settings
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.prompts import Prompt

Box = tuple[int, int, int, int]
Point = tuple[float, float]
PromptBox = tuple[float, float, float, float]
COARSE = 2  # of each side of the grid, the part that is clicked first in hierarchical mode
# Of what makes a mask sure: what makes it worth a click on the point beside. Both are from grids of
# 16 x 16 on 20 held-out scenes: 113 clicks in place of 256, average recall 0.554 in place of 0.560.
NEARLY = 0.9
STABILITY_OFFSET = 1.0  # of logits: how far the threshold is moved each way to see what changes


@dataclass(frozen=True)
class Found:
    """One object.

    Attributes:
        counts: of the mask, as `runs` encodes it: of a large photograph, hundreds of masks are
            kept until it is known which are different.
        size: (height, width) of the image.
        area: pixels of the mask.
        box: x0, y0, x1, y1 of its outermost pixels, all inside.
        predicted_iou: the model's own estimate of the mask's quality, about 0..1.
        stability: see `stability`.
        point: x, y of the click that it answers, in pixels of the image; None if it answers a box.
        prompt_box: x0, y0, x1, y1 of that box; None if it answers a click.
    """

    counts: NDArray[np.int64]
    size: tuple[int, int]
    area: int
    box: Box
    predicted_iou: float
    stability: float
    point: tuple[float, float] | None
    prompt_box: tuple[float, float, float, float] | None = None

    @property
    def mask(self) -> runs.Mask:
        """(height, width) bool, of the image's size."""
        return runs.decode(self.counts, self.size)


def check_settings(settings: Settings, contract: Contract) -> None:
    """Refuse what cannot be done.

    Raises:
        UsageError: a value is outside its range, or the decoder gives one mask a prompt only.
    """
    contract.check_apart("--everything runs")
    if contract.dynamic:
        raise UsageError(
            "--everything needs the decoder's three masks of a click, and this bundle's decoder "
            "gives the best one only; use a bundle of another target, such as onnx"
        )
    if not 1 <= settings.points_per_side <= 256:
        raise UsageError(f"expected 1 to 256 points a side, found {settings.points_per_side}")
    for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"):
        value = getattr(settings, name)
        if not 0 <= value <= 1:  # false for NaN, too
            raise UsageError(f"expected --{name.replace('_', '-')} within 0..1, found {value}")


def grid(per_side: int, size: tuple[int, int]) -> list[tuple[float, float]]:
    """The centers of per_side x per_side equal cells, row by row, as x, y in pixels."""
    height, width = size
    places = (np.arange(per_side) + 0.5) / per_side
    return [(float(x * width), float(y * height)) for y in places for x in places]


def coarse_points(per_side: int) -> NDArray[np.bool_]:
    """(per_side, per_side): every second point of every second row."""
    places = np.arange(per_side) % COARSE == min(COARSE, per_side) // 2
    return np.asarray(places[:, None] & places)


def beside(points: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The points of a grid to the left and right of these, above and below."""
    around = np.pad(points, 1)
    return np.asarray(around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:])


def find_masks(
    predictor: Predictor, image: EmbeddedImage, settings: Settings, advance: Callable[[], None]
) -> list[Found]:
    """Click on the points of the grid and keep the best masks.

    Args:
        predictor: with a decoder that gives all its masks; `decoder_batch` is used if it is there.
        image: from the predictor.
        settings: checked.
        advance: called once for each point, clicked or not.

    Returns:
        The surest first.
    """
    points = grid(settings.points_per_side, image.size)
    if settings.hierarchical:
        found = _coarse_first(predictor, image, settings, points, advance)
    else:
        answers = _click(predictor, image, settings, points, advance)
        found = list(chain.from_iterable(answers))
    return keep_different(found, settings.box_nms_thresh)


def _coarse_first(
    predictor: Predictor,
    image: EmbeddedImage,
    settings: Settings,
    points: Sequence[Point],
    advance: Callable[[], None],
) -> list[Found]:
    """The sure masks of coarse points, and of those beside one that is nearly sure of something."""
    nearly = replace(
        settings,
        pred_iou_thresh=NEARLY * settings.pred_iou_thresh,
        stability_score_thresh=NEARLY * settings.stability_score_thresh,
    )
    coarse = coarse_points(settings.points_per_side)
    first = _chosen(points, coarse)
    answers = _click(predictor, image, nearly, first, advance)
    found = [item for answer in answers for item in answer if _is_sure(item, settings)]
    promising = np.zeros_like(coarse)
    promising[coarse] = [bool(answer) for answer in answers]
    rest = _uncovered(_chosen(points, beside(promising) & ~coarse), found, image.size)
    for _ in range(len(points) - len(first) - len(rest)):
        advance()
    return [*found, *chain.from_iterable(_click(predictor, image, settings, rest, advance))]


def _chosen(points: Sequence[Point], which: NDArray[np.bool_]) -> list[Point]:
    return list(compress(points, which.ravel()))


def _uncovered(
    points: Sequence[Point], found: Sequence[Found], size: tuple[int, int]
) -> list[Point]:
    """The points that are in no mask."""
    covered = np.zeros(size, np.bool_)
    for item in found:
        covered |= item.mask
    return [(x, y) for x, y in points if not covered[int(y), int(x)]]


def _click(
    predictor: Predictor,
    image: EmbeddedImage,
    settings: Settings,
    points: Sequence[Point],
    advance: Callable[[], None],
) -> list[list[Found]]:
    """The sure masks of each click."""
    found = []
    answers = predictor.decode_all([Prompt(((*point, True),)) for point in points], image)
    for point, outputs in zip(points, answers, strict=True):
        found.append(list(_sure_masks(outputs, point, image.size, predictor.contract, settings)))
        advance()
    return found


def _sure_masks(
    outputs: Mapping[str, Array],
    point: Point,
    size: tuple[int, int],
    contract: Contract,
    settings: Settings,
) -> Iterator[Found]:
    """The sure ones of the three masks of a click."""
    for index, predicted_iou in enumerate(np.ravel(outputs["iou_predictions"])):
        if index == 0 or not predicted_iou > settings.pred_iou_thresh:
            continue  # mask 0 is for prompts that are not ambiguous
        low_res = outputs["low_res_masks"][0, index]
        least = settings.stability_score_thresh
        made = _found(low_res, float(predicted_iou), size, contract, least)
        if made is not None:
            yield replace(made, point=point)


def _is_sure(found: Found, settings: Settings) -> bool:
    return (
        found.predicted_iou > settings.pred_iou_thresh
        and found.stability >= settings.stability_score_thresh
    )


def _found(
    low_res: Array,
    predicted_iou: float,
    size: tuple[int, int],
    contract: Contract,
    least_stability: float,
) -> Found | None:
    """A mask at the image's size; None if it is empty or less stable."""
    logits = prompts.upscale(low_res, size, contract.size)
    stable = stability(logits)
    if stable < least_stability:
        return None  # before the mask is encoded, which takes longest
    mask = np.asarray(logits > 0)
    if not mask.any():
        return None
    return Found(
        counts=runs.encode(mask),
        size=size,
        area=int(np.count_nonzero(mask)),
        box=bounding_box(mask),
        predicted_iou=predicted_iou,
        stability=stable,
        point=None,
    )


def mask_boxes(
    predictor: Predictor,
    image: EmbeddedImage,
    boxes: Sequence[PromptBox],
    advance: Callable[[], None],
) -> list[Found]:
    """One mask for each box, in their order; boxes whose mask is empty are left out.

    What is an object has been decided by whoever gave the boxes: nothing is dropped for being
    unsure or like another.

    Args:
        predictor: with a decoder that gives all its masks; `decoder_batch` is used if it is there.
        image: from the predictor.
        boxes: x0, y0, x1, y1 in pixels of the image, checked.
        advance: called once for each box.
    """
    found: list[Found] = []
    answers = predictor.decode_all([Prompt(box=box) for box in boxes], image)
    for box, outputs in zip(boxes, answers, strict=True):
        predicted_iou = float(np.ravel(outputs["iou_predictions"])[0])
        low_res = outputs["low_res_masks"][0, 0]
        made = _found(low_res, predicted_iou, image.size, predictor.contract, 0.0)
        if made is not None:
            found.append(replace(made, prompt_box=box))
        advance()
    return found


def stability(logits: NDArray[np.float32]) -> float:
    """IoU of the masks of a threshold 1 above and 1 below, 0..1; 0 where both are empty."""
    union = np.count_nonzero(logits > -STABILITY_OFFSET)
    return np.count_nonzero(logits > STABILITY_OFFSET) / union if union else 0.0


def bounding_box(mask: runs.Mask) -> Box:
    """x0, y0, x1, y1 of the outermost pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def keep_different(found: list[Found], threshold: float) -> list[Found]:
    """Non-maximum suppression: of masks whose boxes overlap more, the surest.

    Args:
        found: in any order; of equally sure masks the first counts.
        threshold: IoU of boxes, whose sides are the distances of outermost pixels.
    """
    ordered = sorted(found, key=lambda item: -item.predicted_iou)
    boxes = np.array([item.box for item in ordered], np.float64).reshape(-1, 4)
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if not kept or box_ious(box, boxes[kept]).max() <= threshold:
            kept.append(index)
    return [ordered[index] for index in kept]


def box_ious(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of a box (4,) with each of (n, 4), all x0, y0, x1, y1; 0 where both have no area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    return np.asarray(shared / np.where(union > 0, union, 1))
