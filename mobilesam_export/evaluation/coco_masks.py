"""A COCO segmentation (polygons, RLE, compressed RLE) -> a mask, with every value checked.

pycocotools does not check its input: an RLE that is shorter than its size leaves memory as it was
(cocodataset/cocoapi#589), coordinates out of range write outside of their buffer (#380). So RLE is
decoded here, and polygons reach pycocotools only with coordinates near the image.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.errors import one_line

Mask = NDArray[np.bool_]
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
LARGEST = 10**18  # integer; within 64 bits
LEAST_COORDINATES = 6  # of three points; fewer enclose no area
# Longer outlines than this, in pixels, are no drawing of an object; pycocotools takes 100 bytes per
# pixel of an outline.
MAX_OUTLINE = 1_000_000
CHARACTER_BITS = 5  # of a count, in each character of a compressed RLE
MAX_SHIFT = 35  # bits; a run is shorter than 2**31, as images are
FIRST_CHARACTER = ord("0")


class InvalidMaskError(ValueError):
    """A segmentation that is no mask; the message describes the fault."""


def decode(segmentation: object, height: int, width: int) -> Mask:
    """The mask of a segmentation.

    Args:
        segmentation: as read from JSON.
        height: of the frame that it was drawn on.
        width: of the frame.

    Returns:
        (height, width) bool.

    Raises:
        InvalidMaskError: it is no mask of this size.
    """
    if isinstance(segmentation, list):
        return _fill_polygons(segmentation, height, width)
    if isinstance(segmentation, Mapping):
        return _decode_rle(segmentation, height, width)
    raise InvalidMaskError("expected polygons or RLE")


def rle_sizes(annotations: Iterable[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """(height, width) that the RLE masks among annotations are for."""
    masks = [annotation.get("segmentation") for annotation in annotations]
    sizes = (_size(mask) for mask in masks if isinstance(mask, Mapping))
    return {size for size in sizes if size is not None}


def whole_number(value: object) -> int | None:
    """The integer of a JSON value, also of 5.0 or "5"; None if it is none."""
    if isinstance(value, str):
        return int(value) if WHOLE_NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return int(value) if value == int(value) else None


def _size(rle: Mapping[str, Any]) -> tuple[int, int] | None:
    size = rle.get("size")
    if not isinstance(size, list) or len(size) != 2:
        return None
    height, width = map(whole_number, size)
    return None if height is None or width is None else (height, width)


def _decode_rle(rle: Mapping[str, Any], height: int, width: int) -> Mask:
    size, counts = _size(rle), rle.get("counts")
    if size is None:
        raise InvalidMaskError("its RLE has no size")
    if size != (height, width):
        raise InvalidMaskError(f"its RLE is for {size[1]} x {size[0]}, not {width} x {height}")
    if isinstance(counts, str):
        runs = _uncompressed_counts(counts)
    elif isinstance(counts, list):
        runs = [-1 if (run := whole_number(count)) is None else run for count in counts]
    else:
        raise InvalidMaskError("its RLE has no counts")
    if any(run < 0 for run in runs):
        raise InvalidMaskError("its RLE has counts that are no whole numbers of 0 or more")
    if sum(runs) != height * width:
        raise InvalidMaskError(
            f"its RLE counts {sum(runs)} pixels, expected {width} x {height} = {height * width}"
        )
    is_object = np.arange(len(runs)) % 2 == 1  # runs alternate between background and object
    return np.repeat(is_object, np.array(runs, np.int64)).reshape(width, height).T


def _uncompressed_counts(text: str) -> list[int]:
    """Counts of a compressed RLE, by pycocotools' `rleFrString`.

    Each character is "0" plus six bits: five of the count, lowest first, and whether more follow.
    The fifth of the last character is the sign; from the fourth count on, the value is the
    difference to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        if not 0 <= code < 64 or shift >= MAX_SHIFT:
            raise InvalidMaskError("its compressed RLE is damaged")
        value |= (code & 31) << shift
        shift += CHARACTER_BITS
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InvalidMaskError("its compressed RLE breaks off")
    return counts


def _fill_polygons(polygons: list[Any], height: int, width: int) -> Mask:
    from pycocotools import mask as coco_mask

    outlines = [_coordinates(polygon, height, width) for polygon in polygons]
    areas = [outline for outline in outlines if len(outline) >= LEAST_COORDINATES]
    if not areas:
        raise InvalidMaskError("none of its polygons has 3 points")
    runs = coco_mask.merge(coco_mask.frPyObjects(areas, height, width))
    return np.asarray(coco_mask.decode(runs), bool)


def _coordinates(polygon: object, height: int, width: int) -> list[float]:
    """The coordinates x0, y0, x1, y1, ... of a polygon, at most one image's size outside of it."""
    if not isinstance(polygon, list) or any(type(value) not in (int, float) for value in polygon):
        raise InvalidMaskError("a polygon is not a list of numbers")
    if len(polygon) % 2:
        raise InvalidMaskError("a polygon has an odd number of coordinates")
    for value, side in zip(polygon, (width, height) * (len(polygon) // 2), strict=True):
        if not -side <= value <= 2 * side:  # nor is NaN
            quoted = one_line(value, 20)
            raise InvalidMaskError(f"coordinate {quoted} is far outside of {width} x {height}")
    points = np.array(polygon, np.float64).reshape(-1, 2)
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=0)
    if steps.sum() > MAX_OUTLINE:
        raise InvalidMaskError(f"a polygon has an outline of more than {MAX_OUTLINE} pixels")
    return points.ravel().tolist()
