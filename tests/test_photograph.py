"""The portrait that files are verified with shows what apps do wrong to images of phones."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.images import ImageArray, read_image
from mobilesam_export.scenes import scene
from mobilesam_export.verification.photograph import Photograph, photograph

SIDE = 1024


@pytest.fixture(scope="module")
def portrait() -> Photograph:
    return photograph(scene(2, 204, 153), SIDE)


def reduced(image: ImageArray, method: Image.Resampling) -> ImageArray:
    height, width, _ = image.shape
    size = (SIDE * width // height, SIDE)
    return np.asarray(Image.fromarray(image).resize(size, method)).astype(np.int16)


def test_the_same_scene_gives_the_same_bytes(portrait: Photograph) -> None:
    assert photograph(scene(2, 204, 153), SIDE).jpeg == portrait.jpeg


def test_the_file_is_read_as_the_image(portrait: Photograph, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(portrait.jpeg)
    found = read_image(tmp_path / "image.jpg")
    assert found.orientation == 6
    assert np.array_equal(found.pixels, portrait.image)


def test_without_its_orientation_it_lies_on_its_side(portrait: Photograph) -> None:
    width, height = Image.open(io.BytesIO(portrait.jpeg)).size
    assert (width, height) == portrait.image.shape[:2]
    assert width > 2048
    assert width > height


def test_it_looks_like_the_scene(portrait: Photograph) -> None:
    small = np.asarray(Image.fromarray(portrait.image).resize((153, 204), Image.Resampling.BOX))
    assert np.abs(small.astype(int) - scene(2, 204, 153)).mean() < 4


def test_reduced_without_antialiasing_it_differs(portrait: Photograph) -> None:
    right, wrong = (
        reduced(portrait.image, method)
        for method in (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    )
    assert np.abs(right - wrong).mean() > 10


@pytest.mark.parametrize("side", [256, 1024, 2048, 4096])
def test_it_is_larger_than_the_input(side: int) -> None:
    assert max(photograph(scene(2, 40, 30), side).image.shape) > max(2048, side)
