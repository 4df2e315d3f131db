"""Scenes: seeded images with exact masks, at any size."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.scenes import LEAST_AREA, bounding_box, innermost_point, masked_scene, scene

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 96)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, height=SIDES, width=SIDES)
def test_a_scene_of_any_size_has_disjoint_masks_of_that_size(
    seed: int, height: int, width: int
) -> None:
    found = masked_scene(seed, height, width)
    assert found.image.shape == (height, width, 3)
    assert found.image.dtype == np.uint8
    assert found.masks.shape[1:] == (height, width)
    assert (found.masks.sum(axis=0) <= 1).all()
    assert all(mask.mean() > LEAST_AREA for mask in found.masks)


def test_the_same_seed_gives_the_same_scene_and_another_another() -> None:
    first, again, other = (masked_scene(seed, 90, 120) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)
    assert np.array_equal(scene(5, 90, 120), first.image)


def test_almost_every_scene_has_objects() -> None:
    counts = [len(masked_scene(seed, 128, 128).masks) for seed in range(60)]
    assert min(counts) >= 1
    assert 3 <= np.mean(counts) <= 9


def test_an_object_can_be_told_from_what_is_around_it() -> None:
    """Colours inside and just outside differ; masks that were off by a few pixels would not."""
    from scipy.ndimage import binary_dilation

    distances = []
    for seed in range(20):
        found = masked_scene(seed, 256, 256)
        for mask in found.masks:
            around = binary_dilation(mask, iterations=6) & ~binary_dilation(mask, iterations=2)
            inside, outside = found.image[mask], found.image[around]
            distances.append(np.linalg.norm(inside.mean(axis=0) - outside.mean(axis=0)))
    assert np.median(distances) > 60
    assert np.mean(np.array(distances) > 20) > 0.95


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=20)
def test_clicks_and_boxes_belong_to_their_mask(seed: int) -> None:
    for mask in masked_scene(seed, 80, 100).masks:
        x, y = innermost_point(mask)
        assert mask[int(y), int(x)]
        x0, y0, x1, y1 = (int(side) for side in bounding_box(mask))
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0].any()
        assert mask[:, x1 - 1].any()


def test_the_innermost_point_is_the_middle_of_a_disc() -> None:
    y, x = np.ogrid[:41, :61]
    point = innermost_point((x - 40) ** 2 + (y - 20) ** 2 <= 15**2)
    assert point == pytest.approx((40.5, 20.5), abs=1)


def test_a_scene_is_quick() -> None:
    """20 ms at 256 on one core is the aim, seen 12; processor time, the best of several."""
    times = []
    for seed in range(12):
        start = time.process_time()
        masked_scene(seed, 256, 256)
        times.append(time.process_time() - start)
    assert min(times) < 0.05
