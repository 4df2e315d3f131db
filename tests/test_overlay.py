"""What `segment --overlay` and the report of `evaluate` draw."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.segment import BACKGROUND, overlay

HEIGHT, WIDTH = 90, 150  # so the contour is one pixel wide
ROWS, COLUMNS = np.ogrid[:HEIGHT, :WIDTH]
DISTANCE = np.hypot(ROWS - 45, COLUMNS - 60)  # in pixels, from the middle of the mask
MASK = DISTANCE <= 20
Pixels = NDArray[Any]


@pytest.fixture(params=["scene", "white"])
def image(request: pytest.FixtureRequest) -> Pixels:
    if request.param == "white":
        return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    return scene(3, HEIGHT, WIDTH)


def drawn(image: Pixels, mask: Pixels, prompt: Prompt | None = None) -> Pixels:
    return np.asarray(overlay(image, mask, prompt or Prompt()))


def test_a_mask_keeps_its_colors(image: Pixels) -> None:
    assert (drawn(image, MASK)[MASK] == image[MASK]).all()


def test_the_background_is_dimmed(image: Pixels) -> None:
    far = DISTANCE > 25
    dimmed = image[far] * BACKGROUND
    assert np.abs(drawn(image, MASK)[far] - dimmed).max() <= 0.5


def test_a_mask_has_a_white_contour_with_a_dark_edge(image: Pixels) -> None:
    found = drawn(image, MASK)[45]  # the row through the middle
    assert (found[[60 - 21, 60 + 21]] == 255).all()
    assert (found[[60 - 22, 60 + 22]] == 0).all()


def test_a_mask_at_the_border_of_the_image_is_drawn(image: Pixels) -> None:
    everywhere = np.ones_like(MASK)
    assert (drawn(image, everywhere) == image).all()


def test_an_empty_mask_has_no_contour(image: Pixels) -> None:
    found = drawn(image, np.zeros_like(MASK))
    assert np.abs(found - image * BACKGROUND).max() <= 0.5


def test_clicks_and_the_box_are_drawn(image: Pixels) -> None:
    prompt = Prompt(points=((30.0, 10.0, True), (120.0, 80.0, False)), box=(5.0, 6.0, 140.0, 70.0))
    found = drawn(image, MASK, prompt)
    assert found[10, 30].tolist() == [255, 255, 255]
    assert found[80, 120].tolist() == [255, 0, 0]
    assert (found[6, 5:140] == 255).all()


def test_the_image_is_not_changed(image: Pixels) -> None:
    before = image.copy()
    drawn(image, MASK)
    assert (image == before).all()
