"""Data sets for `evaluate`: COCO files, folders, scenes; what is wrong is named, and skipped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam_export.errors import PictureError, UsageError
from mobilesam_export.evaluation import dataset
from mobilesam_export.scenes import scene

HEIGHT, WIDTH = 40, 60
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]  # x0, y0, x1, y1, ...: 20 x 20 pixels
Write = Callable[..., Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(scene(1, HEIGHT, WIDTH)).save(folder / "a.png")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a COCO file with these annotations of a.png; further keys replace whole parts."""

    def run(*annotations: dict[str, Any], **parts: Any) -> Path:
        table = {
            "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
            "annotations": [{"id": n, "image_id": 7, **a} for n, a in enumerate(annotations)],
            **parts,
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(table))
        return path

    return run


def rectangle() -> np.ndarray[Any, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:25, 10:30] = 1
    return mask


def uncompressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def compressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], uncompressed(rectangle()), compressed(rectangle())]
)
def test_polygons_and_both_kinds_of_rle_are_the_same_mask(
    segmentation: object, pictures: Path, write: Write
) -> None:
    found = dataset.coco(pictures, write({"segmentation": segmentation})).read("a.png")
    assert found.masks is not None
    assert np.array_equal(found.masks[0], rectangle().astype(bool))
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"segmentation": uncompressed(rectangle()), "iscrowd": 1}, "is a crowd"),
        ({"segmentation": uncompressed(0 * rectangle())}, "is empty"),
        ({"segmentation": []}, "has no valid mask"),
        ({"segmentation": [[1, 2, 3]]}, "has no valid mask"),
        ({"segmentation": ["x"]}, "has no valid mask"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "has no valid mask"),
        ({}, "has no valid mask"),
    ],
)
def test_what_is_no_object_is_left_out_and_named(
    annotation: dict[str, Any], said: str, pictures: Path, write: Write
) -> None:
    found = dataset.coco(pictures, write(annotation, {"segmentation": [SQUARE]})).read("a.png")
    assert found.masks is not None
    assert len(found.masks) == 1
    assert found.skipped == (f"annotation 0 of a.png {said}",)


def test_annotations_of_another_size_are_refused(pictures: Path, write: Write) -> None:
    path = write(images=[{"id": 7, "file_name": "a.png", "height": 9, "width": 8}])
    with pytest.raises(PictureError, match=r"a\.png is 60 x 40, its annotations are for 8 x 9"):
        dataset.coco(pictures, path).read("a.png")


def test_annotations_of_pictures_that_are_not_listed_are_counted(
    pictures: Path, write: Write
) -> None:
    path = write(annotations=[{"image_id": 8}])
    assert "1 more of pictures that instances.json does not list" in (
        dataset.coco(pictures, path).description
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a list 'images' of objects with id and file_name"),
        ('{"images": [{"id": 1}]}', "expected a list 'images'"),
        ('{"images": [{"id": 1, "file_name": "a"}]}', "expected a list 'annotations'"),
        ('{"images": [], "annotations": []}', "lists no pictures"),
    ],
)
def test_what_is_no_coco_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        dataset.coco(tmp_path, tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_a_folder_gives_its_pictures_without_masks(pictures: Path) -> None:
    (pictures / "notes.txt").touch()
    found = dataset.picture_folder(pictures)
    assert found.names == ("a.png",)
    assert found.read("a.png").masks is None


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture under"):
        dataset.picture_folder(tmp_path)


def test_held_out_scenes_are_never_those_of_training() -> None:
    with pytest.raises(UsageError, match="expected 1 to 999999"):
        dataset.held_out_scenes(1_000_000, 256)
