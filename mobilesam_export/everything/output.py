"""What everything mode writes: masks as JSON, a map of labels, and masks drawn on the image."""

import colorsys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilesam_export.everything import runs
from mobilesam_export.everything.masks import Found
from mobilesam_export.everything.settings import Settings
from mobilesam_export.prompts import ImageArray

GOLDEN_RATIO = 0.618034  # of the color circle: hues after one another that are far apart
OPACITY = 0.6  # of a mask's color on the image
MOST_LABELS = 2**16 - 1  # of a 16-bit PNG, in which 0 is no object


def annotations(
    found: Sequence[Found], image: Path, size: tuple[int, int], settings: Settings
) -> dict[str, Any]:
    """The masks in the form of SA-1B's files, with run lengths as COCO writes them uncompressed."""
    height, width = size
    return {
        "image": {"file_name": image.name, "height": height, "width": width},
        "parameters": asdict(settings),
        "annotations": [_annotation(number, item) for number, item in enumerate(found, start=1)],
    }


def _annotation(number: int, found: Found) -> dict[str, Any]:
    x0, y0, x1, y1 = found.box
    asked: dict[str, Any] = {"point_coords": [] if found.point is None else [list(found.point)]}
    if found.prompt_box is not None:
        asked["prompt_box"] = list(found.prompt_box)
    return {
        "id": number,
        "segmentation": {"size": list(found.size), "counts": found.counts.tolist()},
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": found.area,
        "predicted_iou": found.predicted_iou,
        "stability_score": found.stability,
        **asked,
    }


def label_map(found: Sequence[Found], size: tuple[int, int]) -> Image.Image:
    """16-bit gray: the `id` of the smallest mask at each pixel, 0 where there is none."""
    labels = np.zeros(size, np.uint16)
    for number, item in _large_to_small(found[:MOST_LABELS]):
        labels[item.mask] = number
    return Image.fromarray(labels)


def overlay(image: ImageArray, found: Sequence[Found]) -> Image.Image:
    """The masks in colors on the image, small ones on top, each in a white line.

    Args:
        image: (height, width, 3) uint8, RGB.
        found: masks of the image's size.
    """
    drawn = image.astype(np.float32)
    for number, item in _large_to_small(found):
        mask = item.mask
        drawn[mask] += OPACITY * (_color(number) - drawn[mask])
        drawn[_edge(mask)] = 255
    return Image.fromarray(drawn.round().astype(np.uint8))


def _large_to_small(found: Sequence[Found]) -> list[tuple[int, Found]]:
    numbered = list(enumerate(found, start=1))
    return sorted(numbered, key=lambda pair: -pair[1].area)


def _color(number: int) -> NDArray[np.float32]:
    return np.float32(255) * np.array(colorsys.hsv_to_rgb(number * GOLDEN_RATIO % 1, 0.75, 1.0))


def _edge(mask: runs.Mask) -> runs.Mask:
    """The mask's pixels beside one that is not in it."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside
