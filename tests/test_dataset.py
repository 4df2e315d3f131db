"""Data sets for `evaluate`: COCO files, folders, scenes; what is wrong is named, and skipped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam_export.contract.frame import square
from mobilesam_export.errors import ImageError, UsageError
from mobilesam_export.evaluation import dataset
from mobilesam_export.scenes import scene

HEIGHT, WIDTH = 40, 60
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]  # x0, y0, x1, y1, ...: 20 x 20 pixels
Write = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
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
    segmentation: object, images: Path, write: Write
) -> None:
    found = dataset.coco(images, write({"segmentation": segmentation})).read("a.png")
    assert found.masks is not None
    assert np.array_equal(found.masks[0], rectangle().astype(bool))
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"segmentation": uncompressed(rectangle()), "iscrowd": 1}, "is a crowd"),
        ({"segmentation": uncompressed(0 * rectangle())}, "is empty"),
        ({"segmentation": [SQUARE], "iscrowd": "1"}, "is a crowd"),
        ({"segmentation": [SQUARE], "iscrowd": "no"}, "has iscrowd 'no', expected 0 or 1"),
        ({}, "has no valid mask: expected polygons or RLE"),
        ({"segmentation": [[1, 2, 3]]}, "has no valid mask: a polygon has an odd number"),
    ],
)
def test_what_is_no_object_is_left_out_and_named(
    annotation: dict[str, Any], said: str, images: Path, write: Write
) -> None:
    found = dataset.coco(images, write(annotation, {"segmentation": [SQUARE]})).read("a.png")
    assert found.masks is not None
    assert len(found.masks) == 1
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith(f"annotation 0 of a.png {said}")


def test_annotations_of_another_size_are_refused(images: Path, write: Write) -> None:
    path = write(images=[{"id": 7, "file_name": "a.png", "height": 9, "width": 8}])
    with pytest.raises(ImageError, match=r"a\.png is 60 x 40, its annotations are for 8 x 9"):
        dataset.coco(images, path).read("a.png")


def test_annotations_of_images_that_are_not_listed_are_counted(images: Path, write: Write) -> None:
    path = write(annotations=[{"image_id": 8}])
    assert "1 more of images that instances.json does not list" in (
        dataset.coco(images, path).description
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object with a list 'images'"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": [{"id": 1}]}', "with a list 'annotations'"),
        ('{"images": 1}', "expected an object with a list 'images'"),
        ('{"images": [], "annotations": []}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\] has no file_name"),
    ],
)
def test_what_is_no_coco_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        dataset.coco(tmp_path, tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_a_folder_gives_its_images_without_masks(images: Path) -> None:
    (images / "notes.txt").touch()
    found = dataset.image_folder(images)
    assert found.names == ("a.png",)
    assert found.read("a.png").masks is None


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image under"):
        dataset.image_folder(tmp_path)


def test_held_out_scenes_are_never_those_of_training() -> None:
    with pytest.raises(UsageError, match="expected 1 to 999999"):
        dataset.held_out_scenes(1_000_000, square(256))


def listed(*images: dict[str, Any]) -> dict[str, Any]:
    """Parts of a COCO file with these images, each with one annotation by its id."""
    items = [{"id": n, **image} for n, image in enumerate(images)]
    return {
        "images": items,
        "annotations": [{"image_id": item["id"], "segmentation": [SQUARE]} for item in items],
    }


def test_one_id_of_two_files_is_refused_by_name_and_the_rest_goes_on(
    images: Path, write: Write
) -> None:
    names = ("a.png", "b.png", "c.png")
    for name in names:
        Image.fromarray(scene(1, HEIGHT, WIDTH)).save(images / name)
    ids = (1, "1", 2)
    entries = [{"file_name": n, "id": i} for n, i in zip(names, ids, strict=True)]
    data = dataset.coco(images, write(**listed(*entries)))
    for name, other in (("a.png", "b.png"), ("b.png", "a.png")):
        with pytest.raises(ImageError, match=f"image id 1 stands for {name} and {other}"):
            data.read(name)
    found = data.read("c.png")
    assert found.masks is not None
    assert len(found.masks) == 1


def test_one_file_with_two_ids_is_refused_by_name(images: Path, write: Write) -> None:
    parts = listed({"file_name": "a.png", "id": 1}, {"file_name": "a.png", "id": 2})
    with pytest.raises(ImageError, match=r"a\.png is listed with several ids or sizes \(1, 2\)"):
        dataset.coco(images, write(**parts)).read("a.png")


def test_two_spellings_of_one_file_are_refused_by_name(images: Path, write: Write) -> None:
    parts = listed({"file_name": "a.png"}, {"file_name": "./a.png"})
    with pytest.raises(ImageError, match="is listed by two names"):
        dataset.coco(images, write(**parts)).read("a.png")


def test_an_entry_that_is_repeated_is_one(images: Path, write: Write) -> None:
    parts = listed({"file_name": "a.png"})
    data = dataset.coco(images, write(images=parts["images"] * 2, annotations=[]))
    assert data.names == ("a.png",)
    assert data.read("a.png").skipped == ()


@pytest.mark.parametrize(("identifier", "image_id"), [(5, "5"), (5.0, 5), ("5", 5), ("a1", "a1")])
def test_ids_are_numbers_or_text(
    identifier: object, image_id: object, images: Path, write: Write
) -> None:
    path = write(
        images=[{"id": identifier, "file_name": "a.png"}],
        annotations=[{"image_id": image_id, "segmentation": [SQUARE]}],
    )
    found = dataset.coco(images, path).read("a.png")
    assert found.masks is not None
    assert len(found.masks) == 1


@pytest.mark.parametrize("size", [{}, {"height": 0, "width": 0}, {"height": "40", "width": 60.0}])
def test_sizes_are_numbers_text_or_not_there(
    size: dict[str, Any], images: Path, write: Write
) -> None:
    path = write(**listed({"file_name": "a.png", **size}))
    assert dataset.coco(images, path).read("a.png").skipped == ()


@pytest.mark.parametrize("width", ["wide", -60, True, 60.5, [60], float("nan")])
def test_another_kind_of_size_is_refused_by_name(width: object, images: Path, write: Write) -> None:
    path = write(**listed({"file_name": "a.png", "width": width}))
    with pytest.raises(ImageError, match=r"image a\.png has the width .*, expected a whole"):
        dataset.coco(images, path).read("a.png")


def test_entries_that_are_none_are_named(images: Path, write: Write) -> None:
    image = {"id": 1, "file_name": "a.png"}
    path = write(
        images=[None, {"id": 2}, {"file_name": "b.png"}, image],
        annotations=["x", {"id": 3}, {"image_id": 1, "segmentation": [SQUARE]}],
    )
    data = dataset.coco(images, path)
    assert data.names == ("a.png",)
    assert data.read("a.png").skipped == ()
    assert [problem.partition(" ")[0] for problem in data.problems] == [
        *("images[0]", "images[1]", "images[2]", "annotations[0]", "annotations[1]")
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(encoding: str, images: Path, write: Write) -> None:
    path = write({"segmentation": [SQUARE]})
    path.write_text(path.read_text(), encoding=encoding)
    assert dataset.coco(images, path).names == ("a.png",)


def test_a_file_of_another_name_is_noted(images: Path, write: Write) -> None:
    (note,) = dataset.coco(images, write(**listed({"file_name": r"C:\x\a.png"}))).notes
    file = images / "a.png"
    assert note == rf"files that are not named as listed: 1, such as {file} for C:\x\a.png"


def test_the_identity_is_that_of_images_and_annotations(images: Path, write: Write) -> None:
    first = dataset.coco(images, write({"segmentation": [SQUARE]})).identity()
    again = dataset.coco(images, write({"segmentation": [SQUARE]})).identity()
    assert first == again
    other = dataset.coco(images, write({"segmentation": [[0, *SQUARE[1:]]]})).identity()
    assert {key for key in first if first[key] != other[key]} == {"annotations"}
    Image.fromarray(scene(2, HEIGHT, WIDTH)).save(images / "a.png")
    changed = dataset.coco(images, write({"segmentation": [SQUARE]})).identity()
    assert {key for key in first if first[key] != changed[key]} == {"images"}
