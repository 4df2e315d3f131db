"""A COCO file of instances -> its images, each with its annotations.

An entry that is damaged or ambiguous is reported and left out, and the rest goes on;
only a file without any valid image is refused.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobilesam_export.errors import UsageError, one_line
from mobilesam_export.evaluation.coco_masks import whole_number

Entry = Mapping[str, Any]
Identifier = int | str
SHORT = 40  # characters that are quoted of a damaged entry


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`, with its annotations.

    Attributes:
        identifier: its id.
        name: its file, as written.
        height: in pixels; None where the file does not say (missing, null or 0).
        width: in the same way.
        fault: why it cannot be evaluated; None if it can.
        annotations: of this image, as read from JSON.
    """

    identifier: Identifier
    name: str
    height: int | None
    width: int | None
    fault: str | None = None
    annotations: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class CocoFile:
    """The readable content of the file.

    Attributes:
        images: one per file name, in the order of the file.
        orphans: annotations of images that are not listed.
        problems: entries that belong to no image, in words.
        sha256: of the file's bytes.
    """

    images: tuple[CocoImage, ...]
    orphans: int
    problems: tuple[str, ...]
    sha256: str


class EntryError(ValueError):
    """An entry that is damaged; the message says how."""


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Raises:
        UsageError: it cannot be read, is no COCO file of instances, or lists no image.
    """
    content, table = _load(path)
    problems: list[str] = []
    candidates: list[CocoImage] = []
    for label, entry in _entries(table["images"], "images", problems):
        try:
            candidates.append(_image(entry))
        except EntryError as exc:
            problems.append(f"{label} {exc}")
    if not candidates:
        named = f": {problems[0]}" if problems else ""
        raise UsageError(f"{path} lists no images, expected a list with id and file_name{named}")
    images = _one_per_name(candidates)
    by_image: dict[Identifier, list[Entry]] = {image.identifier: [] for image in candidates}
    orphans = 0
    for label, entry in _entries(table["annotations"], "annotations", problems):
        owner = _identifier(entry.get("image_id"))
        if owner is None:
            problems.append(f"{label} has no image_id that is a whole number or text")
        elif owner in by_image:
            by_image[owner].append(entry)
        else:
            orphans += 1
    return CocoFile(
        tuple(replace(image, annotations=tuple(by_image[image.identifier])) for image in images),
        orphans,
        tuple(problems),
        hashlib.sha256(content).hexdigest(),
    )


def _load(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = path.read_bytes()
        table = json.loads(content)  # in UTF-8, 16 or 32, with a byte order mark or without
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is not JSON: {one_line(exc)}") from exc
    for key in ("images", "annotations"):
        if not isinstance(table, dict) or not isinstance(table.get(key), list):
            raise UsageError(
                f"{path} is not a COCO file of instances: expected an object with a list {key!r}"
            )
    return content, table


def _entries(items: Sequence[object], key: str, problems: list[str]) -> Iterator[tuple[str, Entry]]:
    """Objects of a list with their place in it; anything else is a problem."""
    for index, item in enumerate(items):
        if isinstance(item, Mapping):
            yield f"{key}[{index}]", item
        else:
            problems.append(f"{key}[{index}] is not an object")


def _image(entry: Entry) -> CocoImage:
    """An entry of `images`; a size that cannot be read is a fault of the image alone."""
    identifier, name = _identifier(entry.get("id")), entry.get("file_name")
    if identifier is None:
        raise EntryError("has no id that is a whole number or text")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name:
        raise EntryError("has no file_name")
    try:
        return CocoImage(identifier, name, _side(entry, "height"), _side(entry, "width"))
    except EntryError as exc:
        return CocoImage(identifier, name, None, None, f"image {one_line(name)} {exc}")


def _identifier(value: object) -> Identifier | None:
    """Integers and their text are the same id; other text is another id."""
    number = whole_number(value)
    if isinstance(value, str):
        return number if number is not None and str(number) == value else value or None
    return number


def _side(entry: Entry, key: str) -> int | None:
    value = entry.get(key)
    if value in (None, ""):
        return None
    side = whole_number(value)
    if side is None or side < 0:
        quoted = one_line(value, SHORT)
        raise EntryError(f"has the {key} {quoted!r}, expected a whole number of pixels")
    return side or None


def _one_per_name(candidates: Sequence[CocoImage]) -> list[CocoImage]:
    """One image per file name; images that share a name or an id have a fault."""
    unique = list(dict.fromkeys(candidates))  # repeated entries count once
    names: dict[Identifier, dict[str, None]] = defaultdict(dict)
    by_name: dict[str, list[CocoImage]] = defaultdict(list)
    for image in unique:
        names[image.identifier][image.name] = None
        by_name[image.name].append(image)
    images = []
    for name, same_name in by_name.items():
        shared = [image for image in same_name if len(names[image.identifier]) > 1]
        if shared:
            others = [other for other in names[shared[0].identifier] if other != name]
            fault = (
                f"image id {one_line(shared[0].identifier, SHORT)} stands for {one_line(name)} and "
                f"{one_line(', '.join(others))}: give each image an id of its own"
            )
        elif len(same_name) > 1:
            ids = one_line(", ".join(str(image.identifier) for image in same_name))
            fault = f"image {one_line(name)} is listed with several ids or sizes ({ids})"
        else:
            fault = same_name[0].fault or ""
        images.append(replace(same_name[0], fault=fault or None))
    return images
