"""How far two answers are apart, in the terms that reports use. numpy only."""

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.contract import Array


def psnr_db(found: Array, expected: Array) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the reference's largest absolute value."""
    noise = float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2)))
    peak = float(np.abs(expected).max())
    if not (noise > 0 and np.isfinite(noise)):
        return float("inf") if noise == 0 else float("-inf")
    return 20 * float(np.log10(peak / noise))


def mask_iou(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 1 if both are empty."""
    union = int((found | expected).sum())
    return 1.0 if union == 0 else int((found & expected).sum()) / union
