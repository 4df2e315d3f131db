"""Boxes of a detector, from a JSON file."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilesam_export import prompts
from mobilesam_export.contract import Contract
from mobilesam_export.errors import UsageError, one_line
from mobilesam_export.prompts import Prompt

Box = tuple[float, float, float, float]
FORMS = (
    'a list of [x0, y0, x1, y1] or of COCO annotations {"bbox": [x, y, width, height]}, or such a '
    'list as "boxes" or "annotations"'
)


def read_boxes(path: Path, size: tuple[int, int], contract: Contract) -> list[Box]:
    """Read boxes about one image.

    Args:
        path: of the JSON; see FORMS.
        size: (height, width) of the image.
        contract: of the decoder that they are for.

    Returns:
        x0, y0, x1, y1 of each in pixels of the image, in the order of the file.

    Raises:
        UsageError: the file cannot be read, is not of that form, is about several images, or a box
            is empty or outside the image.
    """
    items = _items(path)
    boxes = [_box(path, number, item) for number, item in enumerate(items, start=1)]
    _check_one_image(path, items)
    for number, box in enumerate(boxes, start=1):
        try:
            prompts.check_prompt(Prompt(box=box), size, contract)
        except UsageError as exc:
            raise UsageError(f"--boxes {path}: box {number}: {exc}") from exc
    return boxes


def _items(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"cannot read --boxes {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"--boxes {path} is not JSON: {one_line(exc)}") from exc
    if isinstance(content, dict):
        named = [content[key] for key in ("boxes", "annotations") if key in content]
        content = named[0] if len(named) == 1 else content
    if not isinstance(content, list):
        raise UsageError(f"--boxes {path} has no list of boxes; expected {FORMS}")
    if not content:
        raise UsageError(f"--boxes {path} has no box in it")
    return content


def _box(path: Path, number: int, item: Any) -> Box:  # noqa: ANN401 JSON
    corners = item.get("bbox") if isinstance(item, dict) else item
    values = list(_numbers(corners))
    if len(values) != 4:
        raise UsageError(
            f"--boxes {path}: box {number} is {one_line(json.dumps(item))}; expected {FORMS}"
        )
    x0, y0, x1, y1 = values
    return (x0, y0, x0 + x1, y0 + y1) if isinstance(item, dict) else (x0, y0, x1, y1)


def _numbers(values: Any) -> Iterator[float]:  # noqa: ANN401 JSON
    """Those of a list of finite numbers; none if it is anything else."""
    if not isinstance(values, list):
        return
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if not abs(value) < math.inf:
            return
        yield float(value) if abs(value) < 1e9 else math.copysign(1e9, value)


def _check_one_image(path: Path, items: list[Any]) -> None:
    """COCO files of detectors list boxes of many images; which of them is meant is not guessed."""
    images = {
        str(item["image_id"]) for item in items if isinstance(item, dict) and "image_id" in item
    }
    if len(images) > 1:
        raise UsageError(
            f"--boxes {path} has boxes of {len(images)} images (image_id); give those of one"
        )
