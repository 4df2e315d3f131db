"""Prompts for the objects of a scene, as SAM was trained: clicks, jittered boxes, corrections.

Coordinates are x, y in pixels of the square image; a point is in the middle of its pixel, as
the prompt encoder adds the half pixel itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BOX_JITTER, MOST_JITTER = 0.1, 20.0  # of the box's side, and in pixels at 1024: SAM's numbers

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Prompts:
    """One prompt for each of B objects, all of one kind, as `Sam.decode` takes them."""

    point_coords: Tensor | None = None
    point_labels: Tensor | None = None
    box: Tensor | None = None
    mask_input: Tensor | None = None

    @property
    def single_click(self) -> bool:
        """Whether it is ambiguous, so that any of the masks 1..3 may be the answer."""
        return (
            self.point_coords is not None and self.point_coords.shape[1] == 1 and self.box is None
        )


def clicks(random: np.random.Generator, masks: Masks) -> Tensor:
    """(B, 1, 2) float32: one pixel of each mask, all equally likely."""
    return torch.stack([_pixel(random, mask) for mask in masks])[:, None]


def boxes(random: np.random.Generator, masks: Masks) -> Tensor:
    """(B, 4) float32: the box around each mask, each side moved by a random distance."""
    side = masks.shape[-1]
    found = []
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
        sizes = np.tile(box[2:] - box[:2], 2)
        limit = MOST_JITTER * side / 1024
        jitter = np.clip(random.normal(0, BOX_JITTER * sizes), -limit, limit)
        found.append(torch.from_numpy(np.clip(box + jitter, 0, side).astype(np.float32)))
    return torch.stack(found)


def corrections(
    random: np.random.Generator, masks: Masks, found: Masks, count: int
) -> tuple[Tensor, Tensor]:
    """Clicks where an answer is wrong: foreground where it misses, background where it exceeds.

    Args:
        random: the source of chance.
        masks: (B, S, S) what was to be found.
        found: (B, S, S) what was found.
        count: clicks for each object.

    Returns:
        Coordinates (B, count, 2) float32 and labels (B, count) float32.
    """
    coords, labels = [], []
    for mask, answer in zip(masks, found, strict=True):
        wrong = mask ^ answer
        region = wrong if wrong.any() else mask
        for _ in range(count):
            point = _pixel(random, region)
            coords.append(point)
            labels.append(float(mask[int(point[1]), int(point[0])]))
    shape = (len(masks), count)
    return torch.stack(coords).reshape(*shape, 2), torch.tensor(labels).reshape(shape)


def _pixel(random: np.random.Generator, mask: NDArray[np.bool_]) -> Tensor:
    pixels = np.flatnonzero(mask)
    y, x = divmod(int(random.choice(pixels)), mask.shape[1])
    return torch.tensor([float(x), float(y)])
