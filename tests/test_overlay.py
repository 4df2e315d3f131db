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
def picture(request: pytest.FixtureRequest) -> Pixels:
    if request.param == "white":
        return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    return scene(3, HEIGHT, WIDTH)


def drawn(picture: Pixels, mask: Pixels, prompt: Prompt | None = None) -> Pixels:
    return np.asarray(overlay(picture, mask, prompt or Prompt()))


def test_a_mask_keeps_its_colors(picture: Pixels) -> None:
    assert (drawn(picture, MASK)[MASK] == picture[MASK]).all()


def test_the_background_is_dimmed(picture: Pixels) -> None:
    far = DISTANCE > 25
    dimmed = picture[far] * BACKGROUND
    assert np.abs(drawn(picture, MASK)[far] - dimmed).max() <= 0.5


def test_a_mask_has_a_white_contour_with_a_dark_edge(picture: Pixels) -> None:
    found = drawn(picture, MASK)[45]  # the row through the middle
    assert (found[[60 - 21, 60 + 21]] == 255).all()
    assert (found[[60 - 22, 60 + 22]] == 0).all()


def test_a_mask_at_the_border_of_the_picture_is_drawn(picture: Pixels) -> None:
    everywhere = np.ones_like(MASK)
    assert (drawn(picture, everywhere) == picture).all()


def test_an_empty_mask_has_no_contour(picture: Pixels) -> None:
    found = drawn(picture, np.zeros_like(MASK))
    assert np.abs(found - picture * BACKGROUND).max() <= 0.5


def test_clicks_and_the_box_are_drawn(picture: Pixels) -> None:
    prompt = Prompt(points=((30.0, 10.0, True), (120.0, 80.0, False)), box=(5.0, 6.0, 140.0, 70.0))
    found = drawn(picture, MASK, prompt)
    assert found[10, 30].tolist() == [255, 255, 255]
    assert found[80, 120].tolist() == [255, 0, 0]
    assert (found[6, 5:140] == 255).all()


def test_the_picture_is_not_changed(picture: Pixels) -> None:
    before = picture.copy()
    drawn(picture, MASK)
    assert (picture == before).all()
