"""Seeded damage to COCO files, EXIF blocks and image files, for `benchmarks.damaged_inputs`."""

import copy
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam_export.scenes import masked_scene

HEIGHT, WIDTH = 48, 64
ANNOTATIONS = 6  # of each image: two objects, three kinds of segmentation
DAMAGED, CONTROL = "a.png", "b.png"  # the images whose entries are damaged, and are not
DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
# None of these is the id or the name of the control, which is right to be refused with its double.
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 7, 1.5, 1e308, -1e308, 10**30, -(10**30), 2**31, 2**63),
    *(float("nan"), float("inf"), float("-inf"), [], {}, [[]], [{}], DEEP, [None], [1, 2, 3]),
    *("", "0", "1", " 48 ", "-5", "x", "\0", "\ud800", "a\nb", "x" * 5000, "../..", "C:\\a.png"),
    *({"size": [HEIGHT, WIDTH]}, {"counts": "0"}, {"size": [0, 0], "counts": []}),
)
JUNK_BYTES = (b"\0", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")


def coco_table() -> dict[str, Any]:
    """Two images with all kinds of segmentations."""
    ids = {DAMAGED: 1, CONTROL: 2}
    images = [
        {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for name, number in ids.items()
    ]
    drawn = [
        {"image_id": number, "iscrowd": 0, "segmentation": write(mask)}
        for number in ids.values()
        for mask in masked_scene(number, HEIGHT, WIDTH).masks[:2]
        for write in (_compressed, _uncompressed, _polygon)
    ]
    annotations = [{"id": number, **item} for number, item in enumerate(drawn)]
    return {"images": images, "annotations": annotations}


def _compressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [HEIGHT, WIDTH], "counts": runs["counts"].decode()}


def _uncompressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat))
    return {
        "size": [HEIGHT, WIDTH],
        "counts": np.diff([0, *edges, HEIGHT * WIDTH]).tolist(),
    }


def _polygon(mask: np.ndarray[Any, Any]) -> list[list[float]]:
    rows, columns = np.nonzero(mask)
    x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    return [[float(value) for value in (x0, y0, x1, y0, x1, y1, x0, y1)]]


def damaged_entries(chance: random.Random) -> bytes:
    """A COCO file with one to three entries of `DAMAGED` damaged, those of `CONTROL` left alone."""
    table = coco_table()
    for _ in range(chance.randint(1, 3)):
        part = chance.choice(("images", "annotations", "annotations"))
        index = 0 if part == "images" else chance.randrange(ANNOTATIONS)
        kind = chance.choice((_damage_value, _damage_value, _damage_value, _damage_list))
        kind(chance, table[part], index)
    names = [entry.get("file_name") for entry in table["images"] if isinstance(entry, dict)]
    if names.count(CONTROL) > 1:  # a name that stands twice is right to be refused
        return damaged_entries(chance)
    return json.dumps(table).encode()


def _damage_list(chance: random.Random, entries: list[Any], index: int) -> None:
    """Replace an entry, put another before it, or repeat it at the end."""
    action = chance.randrange(3)
    if action == 0:
        entries[index] = chance.choice(JUNK)
    elif action == 1:
        entries.append(chance.choice(JUNK))
    else:
        entries.append(copy.deepcopy(entries[index]))


def _damage_value(chance: random.Random, entries: list[Any], index: int) -> None:
    """Walk down to a value anywhere in an entry and remove, replace or distort it."""
    holder: Any = entries
    key: Any = index
    while isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.85:
        holder = holder[key]
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    value = holder[key]
    if isinstance(value, str) and value and chance.random() < 0.6:
        holder[key] = _damaged_text(chance, value)
    elif holder is not entries and chance.random() < 0.25:
        del holder[key]
    else:
        holder[key] = chance.choice(JUNK)


def _damaged_text(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text))
    return chance.choice(
        (
            text[:place],
            text[:place] + chr(chance.randrange(32, 128)) + text[place + 1 :],
            text[:place] + "o" * chance.choice((1, 3, 300)) + text[place:],
            text + text[place:],
        )
    )


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to six places overwritten, removed, repeated, or the end cut off."""
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(max(1, len(content)))
        junk = chance.choice((*JUNK_BYTES, bytes([chance.randrange(256)])))
        action = chance.randrange(10)
        if action == 0:
            content = content[:place]
        elif action == 1:
            content = content[:place] + content[place + chance.randint(1, 8) :]
        elif action == 2:
            content = content[:place] + junk + content[place:]
        else:
            content = content[:place] + junk + content[place + len(junk) :]
    return content


def _rich_exif(order: str) -> bytes:
    """An EXIF block with a value of each type and the sub-directories that cameras write."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = 6
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    exif[0x011A] = 72.0
    exif[0x0132] = "2026:11:25 10:00:00"
    exif.get_ifd(0x8769).update({0x9000: b"0232", 0x829A: 0.01, 0x927C: b"note" * 8, 0xA002: 64})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0), 29: "2026:11:25"})
    return exif.tobytes()


def _damaged_directory(block: bytes, order: str, chance: random.Random) -> bytes:
    """One to four fields (tag, type, count, value) of the first directory's entries overwritten."""
    content = bytearray(block)
    start, entries = 8, struct.unpack_from(f"{order}H", block, 8)[0]
    for _ in range(chance.randint(1, 4)):
        entry = start + 2 + 12 * chance.randrange(entries)
        offset, form = chance.choice(((0, "H"), (2, "H"), (2, "H"), (4, "I"), (8, "I")))
        largest = 2 ** (8 * struct.calcsize(f"{order}{form}")) - 1
        value = chance.choice((chance.randint(0, 20), chance.randint(0, largest), largest))
        struct.pack_into(f"{order}{form}", content, entry + offset, value)
    return bytes(content)


def exif_image(chance: random.Random) -> tuple[bytes, str]:
    """An image file with a damaged EXIF block, and its suffix."""
    pixels = Image.fromarray(masked_scene(1, 16, 24).image)
    kind = chance.choice(("JPEG", "PNG", "WEBP", "TIFF"))
    order = chance.choice(("<", ">"))
    block = _rich_exif(order)
    if kind == "TIFF":  # its own directory is the block
        content = _saved(pixels, kind, exif=block)
        start = struct.unpack("<I", content[4:8])[0]
        return content[:start] + damaged_bytes(content[start:], chance), ".tif"
    prefix = b"Exif\0\0"
    block = block.removeprefix(prefix)
    if chance.random() < 0.7:
        block = _damaged_directory(block, order, chance)
    else:
        block = damaged_bytes(block, chance)
    block = prefix + block
    return _saved(pixels, kind, exif=block), f".{kind.lower()}"


def image_file(chance: random.Random) -> tuple[bytes, str]:
    """A damaged image file of any format that Pillow writes, and its suffix."""
    name = chance.choice(tuple(FILES))
    return damaged_bytes(FILES[name](), chance), name


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _writer(kind: str, mode: str = "RGB", **options: object) -> Callable[[], bytes]:
    pixels = Image.fromarray(masked_scene(2, 32, 40).image).convert(mode)
    content = _saved(pixels, kind, **options)
    return lambda: content


FILES: dict[str, Callable[[], bytes]] = {
    ".avif": _writer("AVIF"),
    ".bmp": _writer("BMP"),
    ".dds": _writer("DDS", "RGBA"),
    ".gif": _writer("GIF", "P"),
    ".jp2": _writer("JPEG2000"),
    ".jpg": _writer("JPEG"),
    ".png": _writer("PNG"),
    ".tga": _writer("TGA"),
    ".tif": _writer("TIFF"),
    ".tiff": _writer("TIFF", "F", compression="tiff_lzw"),
    ".webp": _writer("WEBP"),
}
