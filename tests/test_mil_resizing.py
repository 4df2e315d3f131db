"""Resizing, against linear interpolation by numpy at the places that the documentation gives."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.mil_programs import Array, Var, check, mb, random


def interpolated(x: Array, places: Array, axis: int) -> Array:
    points = np.arange(x.shape[axis])
    lines: Array = np.apply_along_axis(lambda row: np.interp(places, points, row), axis, x)
    return lines


def places(mode: str, size: int, count: int) -> Array:
    """Sampling points as coremltools' documentation of resize_bilinear gives them."""
    i = np.arange(count)
    delta = max(1, size - 1) / count
    rules = {
        "STRICT_ALIGN_CORNERS": i * (size - 1) / max(1, count - 1),
        "ALIGN_CORNERS": i * (size - 1) / (count - 1) if count > 1 else np.array([(size - 1) / 2]),
        "DEFAULT": i * (size - size / count) / max(1, count - 1),
        "OFFSET_CORNERS": 0.5 * delta + i * delta,
        "UNALIGN_CORNERS": i * size / count + 0.5 * size / count - 0.5,
    }
    inside: Array = np.clip(rules[mode], 0, size - 1)
    return inside


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


@pytest.mark.parametrize("mode", MODES)
def test_bilinear(mode: str) -> None:
    x = random(2, 3, 4, 5)
    sizes = list(itertools.product(range(1, 10), range(1, 10)))

    def build(x: Var) -> Var:
        return tuple(
            mb.resize_bilinear(
                x=x, target_size_height=height, target_size_width=width, sampling_mode=mode
            )
            for height, width in sizes
        )

    def expected(height: int, width: int) -> Array:
        rows = interpolated(x, places(mode, 4, height), 2)
        return interpolated(rows, places(mode, 5, width), 3)

    check(build, [expected(*size) for size in sizes], x=x)


@pytest.mark.parametrize("mode", MODES)
def test_resize_of_one_axis(mode: str) -> None:
    x, heights = random(2, 3, 4, 5), range(1, 10)
    options = {"resized_dims": np.uint32(2), "interpolation_mode": "LINEAR"}

    def build(x: Var) -> Var:
        return tuple(
            mb.resize(x=x, shape=[height, 0], sampling_mode=mode, **options) for height in heights
        )

    tall = [interpolated(x, places(mode, 4, height), 2) for height in heights]
    check(build, [interpolated(rows, places(mode, 5, 5), 3) for rows in tall], x=x)


@pytest.mark.parametrize("tall", [1, 2, 3, 1.5, 2.5])
@pytest.mark.parametrize("wide", [1, 2, 3, 1.5])
def test_upsampling(tall: float, wide: float) -> None:
    x = random(1, 2, 4, 6)
    factors: dict[str, Any] = {"scale_factor_height": tall, "scale_factor_width": wide}
    if any(isinstance(f, float) for f in factors.values()):
        factors = {key: np.float32(f) for key, f in factors.items()}
    size = (int(4 * tall), int(6 * wide))

    def build(x: Var) -> Var:
        return (
            mb.upsample_bilinear(x=x, align_corners=True, **factors),
            mb.upsample_bilinear(x=x, align_corners=False, **factors),
            mb.upsample_nearest_neighbor(x=x, **factors),
        )

    smooth = [
        interpolated(interpolated(x, places(mode, 4, size[0]), 2), places(mode, 6, size[1]), 3)
        for mode in ("STRICT_ALIGN_CORNERS", "UNALIGN_CORNERS")
    ]
    rows, columns = (np.arange(m) * n // m for m, n in zip(size, (4, 6), strict=True))
    check(build, [*smooth, x[:, :, rows][..., columns]], x=x)


def test_nearest_neighbor() -> None:
    x = random(1, 2, 4, 6)

    def build(x: Var) -> Var:
        return mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=18)

    check(build, x.repeat(2, 2).repeat(3, 3), x=x)
