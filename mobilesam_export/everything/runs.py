"""COCO's run lengths: a mask as the lengths of its runs of 0 and 1 by turns, down the columns."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def encode(mask: Mask) -> NDArray[np.int64]:
    """The counts of a (height, width) mask; the first is of zeros, and may be 0."""
    values = mask.ravel(order="F")
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    counts = np.diff(changes, prepend=0, append=values.size).astype(np.int64)
    return np.r_[np.int64(0), counts] if values[0] else counts


def decode(counts: NDArray[np.int64], size: tuple[int, int]) -> Mask:
    """The (height, width) mask of counts that add up to height x width."""
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(size, order="F")
