"""A bundle, a picture and a prompt -> a mask, as an app would make it."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mobilesam_export import prompts
from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.bundle.sessions import load_files
from mobilesam_export.errors import BackendError, PictureError, UsageError
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
    size, contract = prompts.picture_size(picture), opened.contract
    prompts.check_prompt(prompt, size, contract)
    backend = get_backend(opened.backend)
    if reason := backend.why_unavailable():
        raise BackendError(f"cannot run {opened.folder}: {reason}")
    with step("Loading the bundle"):
        encoder, decoder = load_files(opened.folder, backend, contract)
    with step("Encoding the picture"):
        inputs = prompts.encoder_inputs(picture, contract)
        embeddings = encoder.run(inputs)["image_embeddings"]
    outputs = decoder.run(prompts.decoder_inputs(prompt, embeddings, size, contract))
    iou = outputs["iou_predictions"][0]
    index = 0 if contract.dynamic else prompts.chosen_index(prompt, iou)
    mask = prompts.final_mask(prompt, outputs, size, contract)
    return Segmentation(mask, float(iou[index]), encoder.note)


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
    """
    for path in paths:
        if path.suffix.lower() != ".png":  # anything lossy would change a mask
            raise UsageError(f"{path} is to be a PNG; give it a name that ends in .png")
        try:
            if path.is_dir() or not path.absolute().parent.is_dir():
                raise UsageError(f"{path} cannot be written: no such folder, or it is one")
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{path} is the picture itself; choose another name")
        except OSError as exc:
            raise PictureError(f"cannot write {path}: {exc.strerror}") from exc
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"mask and overlay are both to be {paths[0]}; choose two names")


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all.

    Raises:
        PictureError: it cannot be written.
    """
    part = path.with_name(f".{path.stem}.part{os.getpid()}.png")
    try:
        image.save(part)
        part.replace(path)
    except OSError as exc:
        raise PictureError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
