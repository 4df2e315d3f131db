"""A bundle, a picture and a prompt -> a mask, as an app would make it."""

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
from mobilesam_export.prompts import Picture, Prompt

COLOR = np.array([30, 144, 255])
OPACITY = 0.55


@dataclass(frozen=True)
class Segmentation:
    """The answer to one prompt.

    Attributes:
        mask: (height, width) bool, of the picture's size.
        predicted_iou: what the model thinks of it.
        note: what must be known of what ran the files; see `Session`.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    note: str


def segment(opened: Bundle, picture: Picture, prompt: Prompt) -> Segmentation:
    """Run encoder and decoder of a bundle.

    Raises:
        UsageError: the prompt cannot be meant.
        BackendError: the bundle's files cannot be run here.
    """
    prompts.check_prompt(prompt, prompts.picture_size(picture), opened.contract)
    with step("Loading the bundle"):
        predictor = opened.predictor()
    with step("Encoding the picture"):
        image = predictor.embed(picture)
    answer = predictor.predict(prompt, image)
    return Segmentation(answer.mask, answer.predicted_iou, predictor.encoder.note)


def overlay(picture: Picture, mask: NDArray[np.bool_], prompt: Prompt) -> Image.Image:
    """The picture with the mask in color, clicks as dots (red: background) and the box."""
    blended = picture.astype(np.float32)
    blended[mask] = (1 - OPACITY) * blended[mask] + OPACITY * COLOR
    image = Image.fromarray(blended.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    unit = max(picture.shape) / 150
    for x, y, inside in prompt.points:
        fill = "white" if inside else "red"
        corners = (x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit)
        draw.ellipse(corners, fill=fill, outline="black", width=max(1, round(unit / 2)))
    if prompt.box is not None:
        draw.rectangle(prompt.box, outline="white", width=max(1, round(unit)))
    return image


def check_picture_paths(source: Path, paths: Sequence[Path]) -> None:
    """Refuse, before any work is done, places where pictures cannot or must not be written.

    Raises:
        UsageError: a suffix is not .png, a folder is not there, or a picture would be lost.
        OutputError: the system refuses the name.
    """
    for path in paths:
        check_output(path, ".png")  # anything lossy would change a mask
        try:
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{path} is the picture itself; choose another name")
        except OSError as exc:
            raise OutputError(f"cannot write {path}: {exc.strerror}") from exc
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"mask and overlay are both to be {paths[0]}; choose two names")


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with write_whole(path) as part:
        image.save(part)
