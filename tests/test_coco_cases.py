"""Annotation files of other tools, after public reports: right, or named and left out.

tests/data/coco/ holds annotations of the scene that is written here as a.png, and the same scene
stored with an EXIF orientation. ok.json is right; each of the others has one fault.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.evaluation import dataset
from mobilesam_export.evaluation.dataset import Sample
from mobilesam_export.scenes import scene
from tests.cli_runner import warm

CASES = Path(__file__).parent / "data" / "coco"
PIXELS = scene(3, 180, 240)
STORED = {3: np.rot90(PIXELS, 2), 6: np.rot90(PIXELS, 1), 8: np.rot90(PIXELS, -1)}
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(PIXELS).save(folder / "a.png")
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = folder / f"exif{orientation}.png"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    return folder


def read(images: Path, name: str) -> Sample:
    data = dataset.coco(images, CASES / name)
    return data.read(data.names[0])


@pytest.fixture(scope="module")
def expected(images: Path) -> Sample:
    return read(images, "ok.json")


def test_right_annotations_are_those_of_the_scene(expected: Sample) -> None:
    assert expected.masks is not None
    assert len(expected.masks) == 6
    assert expected.skipped == expected.notes == ()
    assert np.array_equal(expected.image, PIXELS)


@pytest.mark.parametrize(
    "name",
    [
        *("backslash", "bom", "nullsize", "strsize", "iscrowd_str0"),
        *("exif3_shown", "exif6_shown", "exif6_stored"),
    ],
)
def test_unusual_files_give_the_same_masks(name: str, images: Path, expected: Sample) -> None:
    found = read(images, f"{name}.json")
    assert np.array_equal(found.image, expected.image)
    assert found.masks is not None
    assert expected.masks is not None
    assert np.array_equal(found.masks, expected.masks)
    assert found.skipped == ()


def test_a_frame_that_cannot_be_told_is_named(images: Path) -> None:
    for name in ("exif3_shown.json", "exif3_stored.json"):
        (note,) = read(images, name).notes
        assert note.startswith("image exif3.png has EXIF orientation 3 and nothing tells whether")
    for name in ("exif6_shown.json", "exif6_stored.json"):
        assert read(images, name).notes == ()


@pytest.mark.parametrize("kind", ["polygons", "rle", "null size, rle"])
@pytest.mark.parametrize("orientation", [6, 8])
def test_annotations_of_a_quarter_turn_are_turned_with_the_image(
    orientation: int, kind: str, images: Path, tmp_path: Path
) -> None:
    """A rectangle that is drawn on the stored image, 180 x 240."""
    stored = np.zeros((240, 180), bool)
    stored[10:50, 20:100] = True
    polygon = [[20, 10, 100, 10, 100, 50, 20, 50]]
    flat = np.concatenate([[False], stored.ravel(order="F")])
    counts = np.diff([0, *np.flatnonzero(np.diff(flat)), stored.size]).tolist()
    rle = {"size": [240, 180], "counts": counts}
    size = {"height": None, "width": None} if "null" in kind else {"height": 240, "width": 180}
    name = f"exif{orientation}.png"
    segmentation = polygon if kind == "polygons" else rle
    table = {
        "images": [{"id": 1, "file_name": name, **size}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": segmentation}],
    }
    (tmp_path / "c.json").write_text(json.dumps(table))
    found = dataset.coco(images, tmp_path / "c.json").read(name)
    assert found.masks is not None
    assert np.array_equal(found.masks[0], np.rot90(stored, -1 if orientation == 6 else 1))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "masks", "said"),
    [
        ("cocoapi589", 0, "has no valid mask: its RLE counts"),
        ("cocoapi380", 5, "has no valid mask: coordinate"),
        ("poly_nan", 1, "has no valid mask: coordinate nan"),
    ],
)
def test_a_damaged_annotation_is_named_and_the_others_are_taken(
    name: str, masks: int, said: str, images: Path
) -> None:
    found = read(images, f"{name}.json")
    assert found.masks is not None
    assert len(found.masks) == masks
    (skipped,) = found.skipped
    assert skipped.startswith(f"annotation 1 of a.png {said}")


def evaluate(bundle: Path, images: Path, name: str) -> tuple[Any, str]:
    arguments = ["--images", images, "--annotations", CASES / f"{name}.json", "--json"]
    done = warm(images, ["evaluate", bundle, *arguments])
    assert "Traceback" not in done.stderr
    return (json.loads(done.stdout) if done.code == 0 else done.code), done.stderr


def mean(found: Any) -> dict[str, float]:
    (candidate,) = found["candidates"].values()
    figures: dict[str, float] = candidate["mean"]
    return figures


def test_evaluate_gives_the_right_figures_for_stored_and_shown_frames(
    onnx_demo_bundle: Path, images: Path
) -> None:
    right, _ = evaluate(onnx_demo_bundle, images, "ok")
    assert mean(right)["click_best"] == pytest.approx(0.797, abs=0.001)
    turned, _ = evaluate(onnx_demo_bundle, images, "exif6_stored")
    assert mean(turned) == mean(right)
    untold, _ = evaluate(onnx_demo_bundle, images, "exif3_stored")
    assert untold["notes"][0].startswith("image exif3.png has EXIF orientation 3")


def test_evaluate_goes_on_without_a_damaged_annotation(
    onnx_demo_bundle: Path, images: Path
) -> None:
    found, _ = evaluate(onnx_demo_bundle, images, "cocoapi380")
    (candidate,) = found["candidates"].values()
    assert candidate["objects"] == 5
    (problem,) = found["problems"]
    assert problem.startswith("annotation 1 of a.png has no valid mask")


def test_evaluate_names_what_is_left_out_where_nothing_is_left(
    onnx_demo_bundle: Path, images: Path
) -> None:
    for name, said in (("intname", "image 123 is not under"), ("cocoapi589", "no valid mask")):
        code, stderr = evaluate(onnx_demo_bundle, images, name)
        assert code == 1
        assert said in stderr.splitlines()[-1]
