"""`segment --everything` with the boxes of a detector, and on a coarse grid first."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export.contract import Contract
from mobilesam_export.errors import UsageError
from mobilesam_export.evaluation import coco_masks
from mobilesam_export.everything import masks
from mobilesam_export.everything.boxes import read_boxes
from mobilesam_export.everything.settings import Settings
from mobilesam_export.metrics import mask_iou
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.scenes import bounding_box, masked_scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from tests.cli_runner import USAGE, refused, warm

CONTRACT = Contract(256, 6, load_target("onnx").graph)
HEIGHT, WIDTH = 160, 240


def write(folder: Path, content: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        [[1, 2, 30, 40.5]],
        {"boxes": [[1, 2, 30, 40.5]]},
        [{"bbox": [1, 2, 29, 38.5], "score": 0.9, "image_id": 7}],
        {"annotations": [{"bbox": [1, 2, 29, 38.5], "image_id": 7}], "images": []},
    ],
)
def test_boxes_as_corners_and_as_coco_writes_them(content: object, tmp_path: Path) -> None:
    boxes = read_boxes(write(tmp_path, content), (HEIGHT, WIDTH), CONTRACT)
    assert boxes == [(1, 2, 30, 40.5)]


RUBBISH = [
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ([], "has no box in it"),
    ({"objects": []}, "has no list of boxes; expected a list of [x0, y0, x1, y1]"),
    ({"boxes": [], "annotations": []}, "has no list of boxes"),
    ([[1, 2, 3]], "box 1 is [1, 2, 3]; expected"),
    ([[1, 2, 3, 4], {"bbox": [1, 2, True, 4]}], "box 2 is"),
    ([[1, 2, 3, "4"]], "box 1 is"),
    ("[[1, 2, 3, NaN]]", "box 1 is"),
    ([[30, 2, 10, 40]], "box 1: box 30,2,10,40 is empty"),
    ([[1, 2, 3, 1e300]], "is outside the image"),
    ([{"bbox": [1, 2, 3, 4], "image_id": i} for i in (1, 2)], "has boxes of 2 images (image_id)"),
]


@pytest.mark.parametrize(("content", "phrase"), RUBBISH)
def test_a_file_of_rubbish_is_refused_in_one_line(
    content: object, phrase: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        read_boxes(write(tmp_path, content), (HEIGHT, WIDTH), CONTRACT)
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_box_gets_the_mask_that_it_gets_alone(onnx_demo_bundle: Path, tmp_path: Path) -> None:
    scene = masked_scene(5, HEIGHT, WIDTH)
    Image.fromarray(scene.image).save(tmp_path / "photo.png")
    boxes = [bounding_box(mask) for mask in scene.masks][:2]
    write(tmp_path, boxes)
    options = ["--everything", "--boxes", "boxes.json", "-o", "all.json"]
    done = warm(tmp_path, ["segment", onnx_demo_bundle, "photo.png", *options])
    assert done.code == 0, done.stderr
    assert done.stdout == "all.json: 2 masks\n"
    found = json.loads((tmp_path / "all.json").read_text())["annotations"]
    assert [item["prompt_box"] for item in found] == [list(box) for box in boxes]
    alone = ["--box", ",".join(map(str, boxes[1])), "-o", "one.png"]
    assert warm(tmp_path, ["segment", onnx_demo_bundle, "photo.png", *alone]).code == 0
    mask = np.asarray(Image.open(tmp_path / "one.png")) > 0
    written = coco_masks.decode(found[1]["segmentation"], HEIGHT, WIDTH)
    assert mask_iou(written, mask) == 1


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--everything", "--boxes", "none.json"], "cannot read --boxes none.json"),
        (["--everything", "--boxes", "b", "--points-per-side", 3], "without --points-per-side"),
        (["--point", "1,1", "--boxes", "b"], "--boxes goes with --everything only"),
        (["--point", "1,1", "--hierarchical"], "--hierarchical goes with --everything only"),
    ],
)
def test_options_that_make_no_sense(
    options: list[object], phrase: str, onnx_bundle: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "photo.png")
    refused(tmp_path, ["segment", onnx_bundle, "photo.png", *options], USAGE, [phrase])


@given(per_side=st.integers(1, 40))
def test_the_coarse_points_are_one_of_four(per_side: int) -> None:
    count = int(masks.coarse_points(per_side).sum())
    assert 1 <= count <= max(1, -(-per_side // masks.COARSE)) ** 2


def test_beside_a_point_are_four_others() -> None:
    points = np.zeros((4, 4), np.bool_)
    points[0, 1] = points[2, 3] = True
    assert np.argwhere(masks.beside(points)).tolist() == [
        [0, 0],
        [0, 2],
        [1, 1],
        [1, 3],
        [2, 2],
        [3, 3],
    ]


def half_masked(clicked: list[tuple[float, float]]) -> Predictor:
    """Answers a click with the half of the image, left or right, that it is in; notes it."""

    def decode(inputs: dict[str, Any]) -> dict[str, Any]:
        x, y = inputs["point_coords"][0][0]
        clicked.append((float(x), float(y)))
        logits = np.full((1, 4, 64, 64), -9.0, np.float32)
        logits[..., :32] = 9 if x < 128 else -9
        logits[..., 32:] = 9 if x >= 128 else -9
        return {"low_res_masks": logits, "iou_predictions": np.full((1, 4), 0.9, np.float32)}

    session = Session(decode, "")
    return Predictor(session, session, CONTRACT)


def test_what_sure_masks_cover_is_not_clicked_again() -> None:
    """The coarse grid covers both halves; without it all points are clicked, for the same masks."""
    image = EmbeddedImage(np.zeros((1, 256, 16, 16), np.float32), (256, 256))
    results, calls, steps = [], [], []
    for hierarchical in (False, True):
        clicked: list[tuple[float, float]] = []
        step: list[None] = []
        settings = Settings(points_per_side=8, hierarchical=hierarchical)
        found = masks.find_masks(half_masked(clicked), image, settings, lambda: step.append(None))  # noqa: B023
        results.append(sorted(item.box for item in found))
        calls.append(len(clicked))
        steps.append(len(step))
    assert results[0] == results[1] == [(0, 0, 127, 255), (128, 0, 255, 255)]
    assert calls == [64, 16]
    assert steps == [64, 64]


@pytest.mark.parametrize(
    ("threshold", "calls"),
    [(0.95, 64 - 16), (1.0, 16)],  # nearly sure of everything; of nothing
)
def test_points_beside_what_is_nearly_sure_are_clicked(threshold: float, calls: int) -> None:
    image = EmbeddedImage(np.zeros((1, 256, 16, 16), np.float32), (256, 256))
    clicked: list[tuple[float, float]] = []
    settings = Settings(points_per_side=8, pred_iou_thresh=threshold, hierarchical=True)
    assert masks.find_masks(half_masked(clicked), image, settings, lambda: None) == []
    assert len(clicked) == calls
