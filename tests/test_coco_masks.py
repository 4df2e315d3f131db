"""COCO segmentations: what pycocotools writes is read alike, and nothing unchecked reaches it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from mobilesam_export.evaluation.coco_masks import (
    MAX_OUTLINE,
    InvalidMaskError,
    decode,
    rle_sizes,
    whole_number,
)

HEIGHT, WIDTH = 40, 60
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]  # x0, y0, x1, y1, ...: 20 x 20 pixels
MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def runs(mask: np.ndarray[Any, Any]) -> list[int]:
    flat = np.concatenate([[False], mask.ravel(order="F")])
    return list(map(int, np.diff([0, *np.flatnonzero(np.diff(flat)), mask.size])))


@given(MASKS)
def test_both_kinds_of_rle_are_decoded_as_they_were_encoded(mask: np.ndarray[Any, Any]) -> None:
    size = list(mask.shape)
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (packed["counts"].decode(), runs(mask)):
        assert np.array_equal(decode({"size": size, "counts": counts}, *mask.shape), mask)


@given(st.lists(st.integers(0, 2**28), min_size=1, max_size=20))
def test_counts_of_any_size_are_unpacked_as_pycocotools_packs_them(counts: list[int]) -> None:
    left = max(0, 2**31 - 1 - sum(counts))
    # None over 2**28: pycocotools keeps six characters for a count, and writes the seventh that
    # 2**29 takes beyond its memory, from which the process may die much later.
    counts += [*[2**28] * (left >> 28), left % 2**28]
    height, width = sum(counts), 1
    packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    wrong = {"size": [height + 1, width], "counts": packed["counts"].decode()}
    with pytest.raises(InvalidMaskError, match=f"counts {sum(counts)} pixels"):
        decode(wrong, height + 1, width)


SPANS = st.floats(-1, 2)  # of an image's size


@given(st.lists(st.tuples(SPANS, SPANS), min_size=3, max_size=12))
def test_polygons_within_reason_are_filled_as_pycocotools_does(
    points: list[tuple[float, float]],
) -> None:
    polygon = [value for x, y in points for value in (x * WIDTH, y * HEIGHT)]
    expected = coco_mask.decode(coco_mask.frPyObjects([polygon], HEIGHT, WIDTH))[..., 0]
    assert np.array_equal(decode([polygon], HEIGHT, WIDTH), expected)


def test_polygons_of_two_points_enclose_nothing_and_are_passed_over() -> None:
    with_line = decode([SQUARE, [1, 1, 5, 5]], HEIGHT, WIDTH)
    assert np.array_equal(with_line, decode([SQUARE], HEIGHT, WIDTH))


def rle(counts: object, size: object = (HEIGHT, WIDTH)) -> dict[str, object]:
    return {"size": [*size] if isinstance(size, tuple) else size, "counts": counts}


ZIGZAG = [value for _ in range(MAX_OUTLINE // WIDTH) for value in (0, 0, WIDTH, 0)]
INVALID: dict[str, tuple[object, str]] = {
    "none": (None, "expected polygons or RLE"),
    "text": ("abc", "expected polygons or RLE"),
    "no polygons": ([], "none of its polygons has 3 points"),
    "two points": ([[1, 2, 3, 4]], "none of its polygons has 3 points"),
    "odd": ([[1, 2, 3, 4, 5, 6, 7]], "odd number"),
    "no list": (["x"], "not a list of numbers"),
    "flat": (SQUARE, "not a list of numbers"),
    "numbers as text": ([["1", 2, 3, 4, 5, 6]], "not a list of numbers"),
    "true": ([[True, 2, 3, 4, 5, 6]], "not a list of numbers"),
    "nan": ([[float("nan"), 2, 3, 4, 5, 6]], "coordinate nan is far outside"),
    "infinite": ([[1, float("inf"), 3, 4, 5, 6]], "coordinate inf is far outside"),
    "far": ([[1, 2, 208543216.0, 4, 5, 6]], "coordinate 208543216.0 is far outside of 60 x 40"),
    "enormous": ([[10**4000, 2, 3, 4, 5, 6]], "is far outside"),
    "one of several": ([SQUARE, [1, 2, 999, 4, 5, 6]], "coordinate 999 is far outside"),
    "long outline": ([ZIGZAG], "outline of more than"),
    "no size": ({"counts": [0, HEIGHT * WIDTH]}, "RLE has no size"),
    "size of text": (rle([9], "40x60"), "RLE has no size"),
    "another size": (rle([9], (3, 3)), "RLE is for 3 x 3, not 60 x 40"),
    "no counts": (rle(None), "RLE has no counts"),
    "too few": (rle([5, 5]), "counts 10 pixels, expected 60 x 40 = 2400"),
    "too many": (rle([0, 2401]), "counts 2401 pixels"),
    "negative": (rle([2401, -1]), "no whole numbers"),
    "fraction": (rle([0.5, 2399.5]), "no whole numbers"),
    "huge": (rle([10**4000, 2]), "no whole numbers"),
    "packed, short": (rle("52203"), "counts"),
    "packed, negative": (rle("O"), "no whole numbers"),
    "packed, foreign": (rle("5é"), "damaged"),
    "packed, endless": (rle("o" * 100_000), "damaged"),
    "packed, cut": (rle("o"), "breaks off"),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_mask_is_refused_with_its_reason(name: str) -> None:
    segmentation, said = INVALID[name]
    with pytest.raises(InvalidMaskError, match=said) as caught:
        decode(segmentation, HEIGHT, WIDTH)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((5, 5), (5.0, 5), ("5", 5), (" 240 ", 240), ("-3", -3), (0, 0), (5.5, None)),
        *(("5.5", None), ("", None), ("x", None), (None, None), (True, None), ([], None)),
        *((float("nan"), None), (float("inf"), None), (1e300, None)),
    ],
)
def test_whole_numbers_are_taken_in_every_spelling(value: object, expected: int | None) -> None:
    assert whole_number(value) == expected


def test_sizes_are_those_of_rle_masks() -> None:
    masks = [rle([1], (2, 3)), rle([1], "x"), [SQUARE], None, rle([], ("4", 5.0))]
    assert rle_sizes({"segmentation": mask} for mask in masks) == {(2, 3), (4, 5)}
