"""Images and prompts that layers are ranked on: the user's, or those of `verify`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilesam_export.calibration import SEED, find_images, random_prompts
from mobilesam_export.errors import ImageError
from mobilesam_export.images import read_image
from mobilesam_export.predictor import Predictor
from mobilesam_export.prompts import ImageArray
from mobilesam_export.sensitivity import PROMPTS, few_prompts
from mobilesam_export.verification.cases import ImageCase, PromptCase

IMAGES = 2  # of the user's, and 1 of those of `verify`: a group is as many runs of the encoder


def ranking_cases(
    folder: Path | None, expected: Sequence[ImageCase], reference: Predictor
) -> tuple[ImageCase, ...]:
    """What PyTorch answers to a click and a box on each image.

    Args:
        folder: of the user's images, or None for those of `expected`.
        expected: the cases of `verify`.
        reference: the float32 model.
    """
    if folder is not None and (found := tuple(_user_cases(folder, reference))):
        return found
    return few_prompts(expected[:1])


def _user_cases(folder: Path, reference: Predictor) -> list[ImageCase]:
    """Of the first images that can be read; calibration has said which cannot."""
    random, found = np.random.default_rng(SEED), []
    for path in find_images(folder):
        try:
            image = read_image(path).pixels
        except ImageError:
            continue
        found.append(_case(path.name, image, reference, random))
        if len(found) == IMAGES:
            break
    return found


def _case(
    name: str, image: ImageArray, reference: Predictor, random: np.random.Generator
) -> ImageCase:
    embedded = reference.embed(image)
    click, _, box, _ = random_prompts(random, *embedded.size, slots=3)
    asked = zip(PROMPTS, (click, box), strict=True)
    answers = [PromptCase(label, item, reference.predict(item, embedded)) for label, item in asked]
    return ImageCase(name, image, embedded.embeddings, tuple(answers))
