"""How far two answers are apart, in the terms that reports use."""

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.contract import Array

BOUNDARY_SHARE = 0.02  # of the diagonal (Boundary IoU, Cheng et al., 2021, arXiv:2103.16562)

Mask = NDArray[np.bool_]


def psnr_db(found: Array, expected: Array) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the reference's largest absolute value."""
    noise = float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2)))
    peak = float(np.abs(expected).max())
    if not (noise > 0 and np.isfinite(noise)):
        return float("inf") if noise == 0 else float("-inf")
    return 20 * float(np.log10(peak / noise))


def mask_iou(found: Mask, expected: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 if both are empty."""
    union = int((found | expected).sum())
    return 1.0 if union == 0 else int((found & expected).sum()) / union


def boundary_iou(found: Mask, expected: Mask) -> float:
    """IoU of the bands inside the outlines of two masks, 2 % of the image's diagonal wide.

    What a wrong outline costs a large mask, whose area hides it from `mask_iou`.
    """
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(*expected.shape))))
    return mask_iou(_band(found, distance), _band(expected, distance))


def _band(mask: Mask, distance: int) -> Mask:
    from scipy.ndimage import distance_transform_cdt

    depth = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return np.asarray(mask & (depth <= distance))
