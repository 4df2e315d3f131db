"""Unlabelled images: which there are, which can be read, and which are held out.

Each image is identified by its content, so that a copy, another name or an edited file can never be
taken for another image's embedding. Files are read once before training begins, so that a broken
one is named at the start and not after a night; what was found is kept for the next run.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilesam_export.errors import ImageError, MeasurementError, UsageError
from mobilesam_export.evaluation.dataset import image_folder
from mobilesam_export.files import file_sha256, make_folder, read_json, write_json
from mobilesam_export.images import ImageArray, load_image
from mobilesam_export.progress import items_bar
from mobilesam_export.scenes import TRAINING_SEEDS, scene, shape

SCENES = "scenes:"
# Of generated scenes: far above those that the demo weights were trained on; held-out ones are
# below TRAINING_SEEDS as everywhere.
FIRST_SEED = 10 * TRAINING_SEEDS
MOST_HELD_OUT = 5  # at most one of so many images is held out


@dataclass(frozen=True)
class UnlabelledImage:
    """One image.

    Attributes:
        name: for people.
        content: hash of what it shows.
        read: its pixels, (height, width, 3) uint8. Raises ImageError.
    """

    name: str
    content: str
    read: Callable[[], ImageArray]


@dataclass(frozen=True)
class ImageSet:
    """The images of a run.

    Attributes:
        training: one or more, in an order that does not depend on names.
        held_out: one or more, none of which is trained on.
        problems: of files that were left out, one sentence for each.
        files: of a folder, by name: size, time, hash, and why it cannot be used.
    """

    training: tuple[UnlabelledImage, ...]
    held_out: tuple[UnlabelledImage, ...]
    problems: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def save(self, listing: Path) -> None:
        """Keep what was found of the files, so that the next run need not read them.

        Raises:
            OutputError: it cannot be written.
        """
        if self.files:
            make_folder(listing.parent)
            write_json(listing, self.files)

    @property
    def sha256(self) -> str:
        """Hash of the images and of how they are divided."""
        parts = ("\n".join(i.content for i in part) for part in (self.training, self.held_out))
        return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()


def open_images(source: str, side: int, held_out: int, listing: Path) -> ImageSet:
    """List, check and divide the images.

    Args:
        source: a folder, or "scenes:COUNT".
        side: S, the longer side of generated scenes, see `scenes.shape`.
        held_out: how many to hold out; fewer where that would be over a fifth.
        listing: a JSON file of what an earlier run found, if there is one.

    Raises:
        UsageError: there is no such folder, or it has fewer than two images that can be read.
        MeasurementError: the listing is damaged.
    """
    if source.startswith(SCENES):
        return _scenes(source, side, held_out)
    checked = _checked(Path(source), listing)
    problems = [row["problem"] for row in checked.values() if row["problem"]]
    images: dict[str, UnlabelledImage] = {}
    for name, row in checked.items():
        if row["problem"]:
            continue
        if (first := images.get(row["sha256"])) is not None:
            problems.append(f"{name} is the same file as {first.name}")
            continue
        images[row["sha256"]] = _file(name, row["sha256"], Path(source) / name)
    if len(images) < 2:
        named = f"; {problems[0]}" if problems else ""
        raise UsageError(
            f"{len(images)} of {len(checked)} images under {source} can be used; expected 2 or "
            f"more, of which one is held out{named}"
        )
    # In the order of hashes, which is random and yet the same wherever the files lie.
    ordered = [images[content] for content in sorted(images)]
    count = min(held_out, max(1, len(ordered) // MOST_HELD_OUT))
    return ImageSet(tuple(ordered[count:]), tuple(ordered[:count]), tuple(problems), checked)


def _file(name: str, content: str, path: Path) -> UnlabelledImage:
    return UnlabelledImage(name, content, lambda: load_image(path))


def _scenes(source: str, side: int, held_out: int) -> ImageSet:
    count = source.removeprefix(SCENES)
    if not (count.isascii() and count.isdigit() and 0 < int(count) < TRAINING_SEEDS):
        raise UsageError(f"{source} names no scenes; expected {SCENES}COUNT, such as {SCENES}2000")
    return ImageSet(
        tuple(_scene(FIRST_SEED, number, side) for number in range(int(count))),
        tuple(_scene(0, number, side) for number in range(held_out)),
    )


def _scene(first: int, number: int, side: int) -> UnlabelledImage:
    seed, size = first + number, shape(number, side, side)
    name = f"scene-{seed}"
    content = hashlib.sha256(f"{name} {size}".encode()).hexdigest()
    return UnlabelledImage(name, content, lambda: scene(seed, *size))


def _checked(folder: Path, listing: Path) -> dict[str, dict[str, Any]]:
    """What each file under a folder is: its size, time, hash, and why it cannot be used."""
    files = image_folder(folder).files
    known = read_json(listing, MeasurementError) if listing.exists() else {}
    rows: dict[str, dict[str, Any]] = {}
    with items_bar("Checking images", len(files)) as advance:
        for name, row in _rows(files, known):
            rows[name] = row
            advance()
    return rows


def _rows(
    files: Mapping[str, Path], known: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, path in files.items():
        try:
            status = path.stat()
        except OSError as exc:
            yield name, {"problem": f"cannot read {path}: {exc.strerror}"}
            continue
        stamp = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        row = known.get(name, {})
        if any(row.get(key) != value for key, value in stamp.items()):
            row = {**stamp, **_content(path)}
        yield name, row


def _content(path: Path) -> dict[str, str]:
    try:
        load_image(path)
        return {"sha256": file_sha256(path), "problem": ""}
    except ImageError as exc:
        return {"sha256": "", "problem": str(exc)}


def listed(problems: Sequence[str], most: int = 5) -> Iterator[str]:
    """Lines that count the images that are left out and name the first of them."""
    if problems:
        yield f"{len(problems)} {'image is' if len(problems) == 1 else 'images are'} left out"
    yield from problems[:most]
    if len(problems) > most:
        yield f"and {len(problems) - most} more, see the log"
