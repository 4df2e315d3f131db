"""What pessimistic float16 is held to, and by which words it fails."""

from dataclasses import replace
from typing import Any

import pytest

from mobilesam_export.target import load_target
from mobilesam_export.verification.float16 import Float16

GOOD = Float16(73.4, 0.9953, 1.0, 14.2, "encoder: a", 54.0, "encoder: b")


@pytest.mark.parametrize("recipe", ["float32", "float16"])
def test_files_in_float32_are_held_to_what_float16_can_hold(recipe: str) -> None:
    """A GPU computes both recipes of the target in float16."""
    assert GOOD.broken_limits(load_target("tflite-gpu").recipes[recipe].tolerance) == ()


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ({"embedding_psnr_db": 59.9}, "embedding PSNR (dB) 59.9, expected >= 60"),
        ({"embedding_psnr_db": float("nan")}, "embedding PSNR (dB) nan"),
        ({"mask_iou": 0.98}, "mask IoU 0.98, expected >= 0.99"),
        ({"distance": 0.1}, "the encoder ignores the image"),
        ({"headroom": 3.0}, "encoder: a has a headroom of 3"),
        ({"floor": 0.5}, "encoder: b lies below the normal numbers"),
    ],
)
def test_what_is_worse_is_named(worse: dict[str, Any], words: str) -> None:
    tolerance = load_target("tflite-gpu").recipes["float32"].tolerance
    (failure,) = replace(GOOD, **worse).broken_limits(tolerance)
    assert words in failure
