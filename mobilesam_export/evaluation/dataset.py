"""Images with the masks of their objects: a COCO file, a folder of images, or held-out scenes.

Images are read on demand, so any number of them takes the memory of one.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import ImageError, UsageError, one_line
from mobilesam_export.evaluation.coco_file import CocoImage, read_coco
from mobilesam_export.evaluation.coco_masks import (
    InvalidMaskError,
    decode,
    rle_sizes,
    whole_number,
)
from mobilesam_export.evaluation.coco_paths import locate
from mobilesam_export.files import file_sha256
from mobilesam_export.images import SUFFIXES, ImageArray, LoadedImage, read_image, upright
from mobilesam_export.scenes import TRAINING_SEEDS, masked_scene

Masks = NDArray[np.bool_]
Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        masks: (objects, height, width) bool, or None without annotations.
        skipped: annotations that were left out, in words.
        notes: decisions of a rule where the files are ambiguous, in words.
    """

    image: ImageArray
    masks: Masks | None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Images by name.

    Attributes:
        description: one line for people.
        names: of the images, in order.
        read: a name -> its sample. Raises ImageError.
        files: of the images that are files, by name.
        annotations_sha256: of the annotation file; None without one.
        problems: entries that were left out and belong to no image, in words.
        notes: decisions of a rule for several images, in words.
    """

    description: str
    names: tuple[str, ...]
    read: Callable[[str], Sample]
    files: Mapping[str, Path] = field(default_factory=dict)
    annotations_sha256: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def identity(self) -> dict[str, str | None]:
        """Hashes of everything that the figures depend on; reads every image file."""
        images = hashlib.sha256()
        for name in self.names:
            images.update(f"{name!a} {_content(self.files.get(name))}\n".encode())
        return {
            "dataset": self.description,
            "images": images.hexdigest(),
            "annotations": self.annotations_sha256,
        }


def _content(path: Path | None) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        return None if path is None else file_sha256(path)
    except OSError:
        return None


def held_out_scenes(count: int, size: Frame) -> Dataset:
    """`count` scenes whose seeds the demo weights were never trained on.

    Args:
        count: 1 or more.
        size: of each, in pixels.
    """
    if not 1 <= count < TRAINING_SEEDS:
        raise UsageError(f"{count} scenes; expected 1 to {TRAINING_SEEDS - 1}")

    def read(name: str) -> Sample:
        scene = masked_scene(int(name.removeprefix("scene-")), *size.shape)
        return Sample(scene.image, scene.masks)

    names = tuple(f"scene-{seed}" for seed in range(count))
    return Dataset(f"{count} held-out scenes of {size.width} x {size.height}", names, read)


def image_folder(folder: Path) -> Dataset:
    """All images under a folder, without masks.

    Raises:
        UsageError: there is no such folder, or no image in it.
    """
    _check_folder(folder)
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.is_dir()
    }
    if not files:
        raise UsageError(f"no image under {folder}; expected one of: {', '.join(SUFFIXES)}")

    def read(name: str) -> Sample:
        image = read_image(files[name])
        return Sample(image.pixels, None, notes=image.notes)

    return Dataset(f"{len(files)} images without annotations", tuple(files), read, files)


def coco(folder: Path, annotations: Path) -> Dataset:
    """The images of a COCO file of instances: polygons and RLE, compressed or not.

    Entries that are damaged or ambiguous, crowds and annotations without a mask are left out, and
    named.

    Raises:
        UsageError: there is no such folder or file, or it is no COCO file with images.
    """
    _check_folder(folder)
    table = read_coco(annotations)
    images = {image.name: image for image in table.images}
    files = locate(folder, list(images))
    owners = Counter(files.values())
    count = sum(len(image.annotations) for image in images.values())
    description = f"{len(images)} images with {count} annotations"
    if table.orphans:
        description += f" ({table.orphans} more of images that {annotations.name} does not list)"

    def read(name: str) -> Sample:
        image, path = images[name], files.get(name)
        if image.fault:
            raise ImageError(image.fault)
        if path is None:
            raise ImageError(
                f"image {one_line(name)} is not under {folder}, nor is there one file of this "
                "base name"
            )
        if owners[path] > 1:
            raise ImageError(f"image {one_line(name)} is {path}, which is listed by two names")
        return _annotated(read_image(path), image)

    return Dataset(
        description,
        tuple(images),
        read,
        files,
        table.sha256,
        table.problems,
        _renamed(folder, files),
    )


def _renamed(folder: Path, files: Mapping[str, Path]) -> tuple[str, ...]:
    """A note on files whose names differ from those in the annotations."""
    other_names = {
        name: path for name, path in files.items() if path != folder / os.path.normpath(name)
    }
    if not other_names:
        return ()
    name, path = next(iter(other_names.items()))
    return (
        f"files that are not named as listed: {len(other_names)}, such as {path} for "
        f"{one_line(name)}",
    )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected one of images")


def _annotated(loaded: LoadedImage, image: CocoImage) -> Sample:
    name = one_line(image.name)
    height, width, _ = loaded.pixels.shape
    as_stored, notes = _frame(loaded, image)
    frame = (width, height) if as_stored and loaded.orientation >= 5 else (height, width)
    masks, skipped = [], []
    for annotation in image.annotations:
        label = f"annotation {one_line(annotation.get('id', '?'))} of {name}"
        try:
            mask = _object_mask(annotation, frame)
        except InvalidMaskError as exc:
            skipped.append(f"{label} {exc}")
        else:
            masks.append(upright(mask, loaded.orientation) if as_stored else mask)
    stack = np.array(masks, bool).reshape(-1, height, width)
    return Sample(loaded.pixels, stack, tuple(skipped), (*loaded.notes, *notes))


def _object_mask(annotation: Mapping[str, Any], frame: Size) -> NDArray[np.bool_]:
    """The mask of an annotation; the error says why it is no object."""
    crowd = annotation.get("iscrowd")
    if crowd not in (None, False, True, "") and (crowd := whole_number(crowd)) not in (0, 1):
        quoted = one_line(annotation["iscrowd"])
        raise InvalidMaskError(f"has iscrowd {quoted!r}, expected 0 or 1")
    if crowd:
        raise InvalidMaskError("is a crowd")
    try:
        mask = decode(annotation.get("segmentation"), *frame)
    except InvalidMaskError as exc:
        raise InvalidMaskError(f"has no valid mask: {exc}") from exc
    if not mask.any():
        raise InvalidMaskError("is empty")
    return mask


def _frame(loaded: LoadedImage, image: CocoImage) -> tuple[bool, tuple[str, ...]]:
    """Whether masks were drawn on the image as stored, and a note where it is ambiguous.

    Some tools show an image by its EXIF orientation and some do not
    (jsbroks/coco-annotator#228). Sizes tell the two apart if they differ.

    Raises:
        ImageError: the annotations are for neither.
    """
    name = one_line(image.name)
    height, width, _ = loaded.pixels.shape
    upright_size = (height, width)
    stored_size = (width, height) if loaded.orientation >= 5 else upright_size
    possible = [size for size in (upright_size, stored_size) if _fits(image, size)]
    if not possible:
        declared = f"{image.width or '?'} x {image.height or '?'}"
        rotation = f" ({height} x {width} before its EXIF orientation)"
        size = f"{width} x {height}{'' if stored_size == upright_size else rotation}"
        raise ImageError(f"image {name} is {size}, its annotations are for {declared}")
    if len(possible) == 2 and stored_size != upright_size:  # the size of the image is not written
        masks = rle_sizes(image.annotations)
        possible = [size for size in (upright_size, stored_size) if size in masks] or possible
    if loaded.orientation == 1 or not image.annotations:
        return False, ()
    if len(possible) == 1 and stored_size != upright_size:
        return possible == [stored_size], ()
    return False, (
        f"image {name} has EXIF orientation {loaded.orientation} and nothing tells whether its "
        "annotations were drawn on it as stored or as shown: taken as shown",
    )


def _fits(image: CocoImage, size: Size) -> bool:
    return image.height in (None, size[0]) and image.width in (None, size[1])
