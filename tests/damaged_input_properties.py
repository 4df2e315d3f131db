"""Properties of damaged COCO files and EXIF blocks; run as a program, which may crash.

`tests/test_damaged_inputs.py` starts it and takes a signal for the failure that it is.
"""

import faulthandler
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export.errors import ImageError
from mobilesam_export.evaluation import dataset
from mobilesam_export.images import read_image
from mobilesam_export.scenes import scene

Result = TypeVar("Result")
HEIGHT, WIDTH = 20, 30
PIXELS = scene(1, HEIGHT, WIDTH)
SQUARE = [[2, 3, 12, 3, 12, 9, 2, 9]]
SEEDED = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = (
    st.integers(-3, 40) | st.floats(-40, 70) | st.integers() | st.floats() | st.just(WIDTH * HEIGHT)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=6), part),
    max_leaves=6,
)
POLYGONS = st.lists(st.lists(NUMBERS, max_size=12) | VALUES, max_size=3)
PACKED = st.text(st.characters(min_codepoint=47, max_codepoint=112), max_size=20)
RLE = st.fixed_dictionaries(
    {},
    optional={
        "size": st.just([HEIGHT, WIDTH]) | VALUES,
        "counts": PACKED | st.lists(st.integers(-5, 700), max_size=6) | VALUES,
    },
)
OWN_ID = st.sampled_from([1, 1.0, "1"])
ANNOTATIONS = st.fixed_dictionaries(
    {"image_id": OWN_ID},
    optional={
        "id": VALUES,
        "iscrowd": st.sampled_from([0, 1, "0", "1", None]) | VALUES,
        "segmentation": POLYGONS | RLE | VALUES,
    },
)
IMAGES = st.fixed_dictionaries(
    {"id": OWN_ID, "file_name": st.just("a.png")},
    optional={"height": st.just(HEIGHT) | VALUES, "width": st.just(str(WIDTH)) | VALUES},
)


def is_no_id_of_a_listed_image(entry: Any) -> bool:
    return not isinstance(entry, dict) or not {"id", "image_id", "file_name"} & set(entry)


STRAYS = st.lists(VALUES.filter(is_no_id_of_a_listed_image), max_size=2)


def write_images(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(PIXELS).save(folder / name)


def result_or_refusal(read: Callable[[], Result]) -> Result | str:
    try:
        return read()
    except ImageError as exc:
        return str(exc)


@SEEDED
@given(image=IMAGES, annotations=st.lists(ANNOTATIONS, max_size=4), strays=STRAYS)
def every_annotation_is_a_mask_or_named(
    image: dict[str, Any], annotations: list[dict[str, Any]], strays: list[Any]
) -> None:
    """And the annotation of another image is the mask that it is."""
    control = {"id": "control", "image_id": 2, "segmentation": SQUARE}
    table = {
        "images": [*strays, image, {"id": 2, "file_name": "b.png"}],
        "annotations": [*annotations, *strays, control],
    }
    path = FOLDER / "instances.json"
    path.write_text(json.dumps(table))
    data = dataset.coco(FOLDER, path)
    expected = np.zeros((1, HEIGHT, WIDTH), bool)
    expected[0, 3:9, 2:12] = True
    control_masks = data.read("b.png").masks
    assert control_masks is not None
    assert np.array_equal(control_masks, expected)
    assert len(data.problems) == 2 * len(strays)
    found = result_or_refusal(lambda: data.read("a.png"))
    if isinstance(found, str):
        assert found.isprintable()
        assert any(not is_side(image.get(key)) for key in ("height", "width"))
    else:
        assert found.masks is not None
        assert len(found.masks) + len(found.skipped) == len(annotations)
        assert all(mask.any() for mask in found.masks)
        assert all(text.isprintable() for text in found.skipped)


def is_side(value: Any) -> bool:
    """Whether a height or width is the right one or says that it is not known."""
    return (
        value in (HEIGHT, WIDTH, str(HEIGHT), str(WIDTH), 0, "0", "", None) and value is not False
    )


BLOCKS = st.binary(max_size=60) | st.builds(
    lambda order, entries, rest: b"".join(
        (
            b"II*\0\x08\0\0\0" if order == "little" else b"MM\0*\0\0\0\x08",
            len(entries).to_bytes(2, order),
            *(
                b"".join(
                    value.to_bytes(size, order)
                    for value, size in zip(entry, (2, 2, 4, 4), strict=True)
                )
                for entry in entries
            ),
            rest,
        )
    ),
    st.sampled_from(["little", "big"]),
    st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x8769, 0x8825, 0x011A, 0x0110]) | st.integers(0, 2**16 - 1),
            st.integers(0, 14),
            st.integers(0, 5) | st.integers(0, 2**32 - 1),
            st.integers(0, 9) | st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    ),
    st.binary(max_size=40),
)


@SEEDED
@given(block=BLOCKS, kind=st.sampled_from(["png", "jpeg", "webp"]))
def any_exif_block_is_an_orientation_or_refused(block: bytes, kind: str) -> None:
    path = FOLDER / f"exif.{kind}"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + block)
    found = result_or_refusal(lambda: read_image(path))
    if isinstance(found, str):
        assert found.isprintable()
    else:
        turned = found.orientation >= 5
        assert found.pixels.shape == ((WIDTH, HEIGHT, 3) if turned else (HEIGHT, WIDTH, 3))


if __name__ == "__main__":
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(folder)
        write_images(FOLDER)
        every_annotation_is_a_mask_or_named()
        any_exif_block_is_an_orientation_or_refused()
