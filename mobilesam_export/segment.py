"""A bundle, an image and a prompt -> a mask, as an app would make it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mobilesam_export import prompts
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.errors import OutputError, UsageError
from mobilesam_export.files import check_output, write_whole
from mobilesam_export.progress import step
from mobilesam_export.prompts import ImageArray, Prompt

BACKGROUND = 0.4  # brightness of what is not in the mask, so that the mask keeps its own colors


@dataclass(frozen=True)
class Segmentation:
    """The answer to one prompt.

    Attributes:
        mask: (height, width) bool, of the image's size.
        predicted_iou: what the model thinks of it.
        note: what must be known of what ran the files; see `Session`.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    note: str


def segment(opened: Bundle, image: ImageArray, prompt: Prompt) -> Segmentation:
    """Run encoder and decoder of a bundle.

    Raises:
        UsageError: the prompt cannot be meant.
        BackendError: the bundle's files cannot be run here.
    """
    prompts.check_prompt(prompt, prompts.height_and_width(image), opened.contract)
    with step("Loading the bundle"):
        predictor = opened.predictor()
    with step("Encoding the image"):
        encoded = predictor.embed(image)
    answer = predictor.predict(prompt, encoded)
    return Segmentation(answer.mask, answer.predicted_iou, predictor.encoder.note)


def overlay(image: ImageArray, mask: NDArray[np.bool_], prompt: Prompt) -> Image.Image:
    """The mask in its own colors in a white contour on a dimmed background, and the prompt.

    Args:
        image: (height, width, 3) uint8, RGB.
        mask: (height, width) bool.
        prompt: drawn as dots (white: in the mask, red: background) and the box.

    Returns:
        RGB, of the image's size.
    """
    unit = max(image.shape) / 150
    line = max(1, round(unit / 2))
    contour = _grown(mask, line)
    edge = _grown(contour, max(1, line // 2))  # dark, so that the line is seen on white, too
    drawn = np.where(mask[..., None], image, image * BACKGROUND).round().astype(np.uint8)
    drawn[edge & ~mask] = 0
    drawn[contour & ~mask] = 255
    canvas = Image.fromarray(drawn)
    draw = ImageDraw.Draw(canvas)
    for x, y, inside in prompt.points:
        fill = "white" if inside else "red"
        corners = (x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit)
        draw.ellipse(corners, fill=fill, outline="black", width=max(1, round(unit / 2)))
    if prompt.box is not None:
        draw.rectangle(prompt.box, outline="white", width=max(1, round(unit)))
    return canvas


def _grown(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The pixels from which the mask is at most `radius` rows and columns away."""
    for axis in (0, 1):
        around = [(radius, radius) if axis == a else (0, 0) for a in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(mask, around), 2 * radius + 1, axis
        )
        mask = np.any(windows, axis=-1)
    return mask


def check_image_paths(source: Path, paths: Sequence[Path]) -> None:
    """Refuse, before any work is done, places where images cannot or must not be written.

    Raises:
        UsageError: a suffix is not .png, a folder is not there, or an image would be lost.
        OutputError: the system refuses the name.
    """
    for path in paths:
        check_output(path, ".png")  # anything lossy would change a mask
        try:
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{path} is the image itself; choose another name")
        except OSError as exc:
            raise OutputError(f"cannot write {path}: {exc.strerror}") from exc
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"mask and overlay are both to be {paths[0]}; choose two names")


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with write_whole(path) as part:
        image.save(part)
