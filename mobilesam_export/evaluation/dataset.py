"""Pictures with the masks of their objects: a COCO file, a folder of pictures, or held-out scenes.

Nothing is read before it is asked for, so any number of pictures takes the memory of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.errors import PictureError, UsageError
from mobilesam_export.files import read_json
from mobilesam_export.prompts import Picture, load_picture, picture_size
from mobilesam_export.scenes import TRAINING_SEEDS, masked_scene

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        picture: (height, width, 3) uint8 RGB.
        masks: (objects, height, width) bool, or None where nobody has drawn any.
        skipped: what was left out of the annotations, in words.
    """

    picture: Picture
    masks: Masks | None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Pictures by name.

    Attributes:
        description: one line for people.
        names: of the pictures, in order.
        read: a name -> its sample. Raises PictureError.
    """

    description: str
    names: tuple[str, ...]
    read: Callable[[str], Sample]


def held_out_scenes(count: int, side: int) -> Dataset:
    """`count` square scenes whose seeds the demo weights were never trained on.

    Args:
        count: 1 or more.
        side: of each, in pixels.
    """
    if not 1 <= count < TRAINING_SEEDS:
        raise UsageError(f"{count} scenes; expected 1 to {TRAINING_SEEDS - 1}")

    def read(name: str) -> Sample:
        scene = masked_scene(int(name.removeprefix("scene-")), side, side)
        return Sample(scene.picture, scene.masks)

    names = tuple(f"scene-{seed}" for seed in range(count))
    return Dataset(f"{count} held-out scenes of {side} x {side}", names, read)


def picture_folder(folder: Path) -> Dataset:
    """Every picture under a folder, without masks.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """
    _check_folder(folder)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
    )
    if not names:
        raise UsageError(f"no picture under {folder}; expected one of: {', '.join(SUFFIXES)}")

    def read(name: str) -> Sample:
        return Sample(load_picture(folder / name), None)

    return Dataset(f"{len(names)} pictures without annotations", tuple(names), read)


def coco(folder: Path, annotations: Path) -> Dataset:
    """The pictures of a COCO file of instances: polygons and RLE, compressed or not.

    Crowd annotations and those without a mask are left out, and said so.

    Raises:
        UsageError: there is no such folder or file, or it is no COCO file with pictures.
    """
    _check_folder(folder)
    table = _read_coco(annotations)
    images = {image["id"]: image for image in table["images"]}
    by_name = {image["file_name"]: image for image in images.values()}
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in by_name}
    strays = 0
    for annotation in table["annotations"]:
        image = images.get(annotation["image_id"])
        if image is None:
            strays += 1
        else:
            found[image["file_name"]].append(annotation)
    count = sum(len(items) for items in found.values())
    said = f"{len(by_name)} pictures with {count} annotations"
    if strays:
        said += f" ({strays} more of pictures that {annotations.name} does not list)"
    read = partial(_read_annotated, folder, by_name, found)
    return Dataset(said, tuple(found), read)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected one of pictures")


def _read_coco(path: Path) -> Mapping[str, Any]:
    table = read_json(path, UsageError)
    keys = {"images": ("id", "file_name"), "annotations": ("image_id",)}
    for part, needed in keys.items():
        items = table.get(part) if isinstance(table, dict) else None
        if not isinstance(items, list) or not all(
            isinstance(item, dict) and all(key in item for key in needed) for item in items
        ):
            raise UsageError(
                f"{path} is not a COCO file of instances: expected a list {part!r} of objects "
                f"with {' and '.join(needed)}"
            )
    if not table["images"]:
        raise UsageError(f"{path} lists no pictures")
    return dict(table)


def _read_annotated(
    folder: Path,
    images: Mapping[str, Mapping[str, Any]],
    annotations: Mapping[str, list[Mapping[str, Any]]],
    name: str,
) -> Sample:
    picture = load_picture(folder / name)
    height, width = picture_size(picture)
    image = images[name]
    written = (image.get("height", height), image.get("width", width))
    if written != (height, width):
        raise PictureError(
            f"picture {name} is {width} x {height}, its annotations are for "
            f"{written[1]} x {written[0]}"
        )
    masks, skipped = [], []
    for annotation in annotations[name]:
        label = f"annotation {annotation.get('id', '?')} of {name}"
        if annotation.get("iscrowd"):
            skipped.append(f"{label} is a crowd")
            continue
        mask = _decoded(annotation.get("segmentation"), height, width)
        if mask is None or not mask.any():
            skipped.append(f"{label} {'has no valid mask' if mask is None else 'is empty'}")
        else:
            masks.append(mask)
    return Sample(picture, np.array(masks, bool).reshape(-1, height, width), tuple(skipped))


def _decoded(segmentation: object, height: int, width: int) -> NDArray[np.bool_] | None:
    """A COCO segmentation as (height, width) bool; None if it is not valid."""
    from pycocotools import mask as coco_mask

    try:
        if isinstance(segmentation, list):  # polygons, each x0, y0, x1, y1, ...
            polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
            if not polygons:
                return None
            runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        elif isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
            runs = segmentation
            if isinstance(segmentation.get("counts"), list):
                runs = coco_mask.frPyObjects(segmentation, height, width)
        else:
            return None
        return np.asarray(coco_mask.decode(runs), bool)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
