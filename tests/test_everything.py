"""`segment --everything`: the rules of SAM's automatic mask generator, and what is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image

from mobilesam_export.evaluation import coco_masks
from mobilesam_export.everything import masks, output, runs
from mobilesam_export.everything.masks import Found
from mobilesam_export.scenes import scene
from tests.cli_runner import USAGE, Result, refused, warm

ALL_SURE = ("--pred-iou-thresh", 0.3, "--stability-score-thresh", 0.3)
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=12)


def found(box: tuple[int, int, int, int], predicted_iou: float) -> Found:
    """A mask that fills its box, in an image of 40 x 40."""
    x0, y0, x1, y1 = box
    mask = np.zeros((40, 40), np.bool_)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    area = int(mask.sum())
    return Found(runs.encode(mask), mask.shape, area, box, predicted_iou, 1.0, (1.0, 1.0))


@given(per_side=st.integers(1, 20), size=st.tuples(st.integers(1, 500), st.integers(1, 500)))
def test_points_are_the_centers_of_equal_cells(per_side: int, size: tuple[int, int]) -> None:
    points = np.array(masks.grid(per_side, size))
    assert len(points) == per_side**2
    for values, length in zip(points.T, size[::-1], strict=True):
        ends = np.r_[0, np.unique(values.round(6)), length]
        gaps = np.diff(ends) / (length / per_side)
        assert gaps == pytest.approx([0.5, *[1.0] * (per_side - 1), 0.5], abs=1e-3)


@given(mask=arrays(np.bool_, SHAPES))
def test_run_lengths_are_those_of_coco(mask: NDArray[np.bool_]) -> None:
    """Read by pycocotools, as whoever gets the file will."""
    counts = runs.encode(mask)
    assert np.array_equal(runs.decode(counts, mask.shape), mask)
    rle = {"size": list(mask.shape), "counts": counts.tolist()}
    if mask.any():  # a segmentation without a pixel is no valid one to COCO's readers
        assert np.array_equal(coco_masks.decode(rle, *mask.shape), mask)


@given(mask=arrays(np.bool_, SHAPES).filter(np.any))
def test_a_box_holds_the_mask_and_no_less(mask: NDArray[np.bool_]) -> None:
    x0, y0, x1, y1 = masks.bounding_box(mask)
    inside = mask[y0 : y1 + 1, x0 : x1 + 1]
    assert inside.sum() == mask.sum()
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_stability_is_the_share_that_no_small_change_of_the_threshold_takes_away() -> None:
    logits = np.array([[5, 5, 5, 0.5], [-0.5, -5, -5, -5]], np.float32)
    assert masks.stability(logits) == 3 / 5
    assert masks.stability(np.full((2, 2), -9, np.float32)) == 0


def test_of_masks_whose_boxes_overlap_the_surest_is_kept() -> None:
    small, large, other = (0, 0, 10, 10), (0, 0, 11, 11), (20, 20, 30, 30)
    given = [found(small, 0.9), found(other, 0.8), found(large, 0.95)]
    kept = masks.keep_different(given, 0.7)
    assert [item.box for item in kept] == [large, other]
    assert [item.box for item in masks.keep_different(given, 0.9)] == [large, small, other]
    assert masks.keep_different([], 0.7) == []


def test_small_masks_lie_on_large_ones_in_the_map_of_labels() -> None:
    labels = np.asarray(
        output.label_map([found((2, 2, 5, 5), 0.9), found((0, 0, 9, 9), 0.8)], (40, 40))
    )
    assert labels[3, 3] == 1
    assert labels[0, 0] == 2
    assert labels[20, 20] == 0


@pytest.fixture(scope="module")
def run(onnx_demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Everything in a scene, and the folder with what was written."""
    folder = tmp_path_factory.mktemp("everything")
    Image.fromarray(scene(5, 160, 240)).save(folder / "photo.png")
    options = ["--points-per-side", 6, *ALL_SURE, "--overlay", "o.png", "--labels", "l.png"]
    return folder, warm(
        folder, ["segment", onnx_demo_bundle, "photo.png", "--everything", *options]
    )


def test_every_mask_answers_a_click_and_passes_the_thresholds(run: tuple[Path, Result]) -> None:
    folder, done = run
    assert done.code == 0, done.stderr
    written: dict[str, Any] = json.loads((folder / "masks.json").read_text())
    assert written["image"] == {"file_name": "photo.png", "height": 160, "width": 240}
    assert written["parameters"]["points_per_side"] == 6
    assert len(written["annotations"]) >= 3
    assert done.stdout == f"masks.json, l.png, o.png: {len(written['annotations'])} masks\n"
    for item in written["annotations"]:
        mask = coco_masks.decode(item["segmentation"], 160, 240)
        assert item["area"] == mask.sum()
        assert item["predicted_iou"] > 0.3
        assert item["stability_score"] >= 0.3
        (point,) = item["point_coords"]
        assert tuple(point) in masks.grid(6, (160, 240))


def test_the_images_show_the_masks_of_the_json(run: tuple[Path, Result]) -> None:
    folder, _ = run
    written = json.loads((folder / "masks.json").read_text())
    labels = np.asarray(Image.open(folder / "l.png"))
    smallest = min(written["annotations"], key=lambda item: item["area"])
    mask = coco_masks.decode(smallest["segmentation"], 160, 240)
    assert set(labels[mask]) == {smallest["id"]}
    overlay = np.asarray(Image.open(folder / "o.png"))
    changed = (overlay != np.asarray(Image.open(folder / "photo.png"))).any(axis=-1)
    assert (changed <= (labels > 0)).all()
    assert changed[mask].mean() > 0.9


def test_where_nothing_is_sure_the_files_are_empty_and_say_so(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(5, 60, 90)).save(tmp_path / "photo.png")
    options = ["--everything", "--points-per-side", 1, "--pred-iou-thresh", 1, "-o", "none.json"]
    done = warm(tmp_path, ["segment", onnx_bundle, "photo.png", *options])
    assert (done.code, done.stdout) == (0, "none.json: 0 masks\n")
    assert "lower values keep more masks" in done.stderr
    assert json.loads((tmp_path / "none.json").read_text())["annotations"] == []


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--everything", "--point", "1,1"], "--everything takes no prompt"),
        (["--everything", "--points-per-side", 0], "expected 1 to 256 points a side, found 0"),
        (["--everything", "--box-nms-thresh", "nan"], "--box-nms-thresh within 0..1, found nan"),
        (["--everything", "-o", "masks.png"], "is not a .json file"),
        (["--point", "1,1", "--labels", "l.png"], "--labels goes with --everything only"),
        (["--point", "1,1", "--points-per-side", 3], "--points-per-side goes with --everything"),
    ],
)
def test_options_that_make_no_sense(
    options: list[object], phrase: str, onnx_bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(5, 60, 90)).save(tmp_path / "photo.png")
    refused(tmp_path, ["segment", onnx_bundle, "photo.png", *options], USAGE, [phrase])


def test_a_decoder_of_one_mask_is_refused(onnx_sam_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(scene(5, 60, 90)).save(tmp_path / "photo.png")
    phrases = ["needs the decoder's three masks of a click"]
    arguments = ["segment", onnx_sam_bundle, "photo.png", "--everything"]
    refused(tmp_path, arguments, USAGE, phrases)
