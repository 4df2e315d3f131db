"""Versions of an image to train on: the whole, and crops and flips that any run finds again.

Teacher and student see the same pixels. A version depends on the image's content and a number
alone, so that an embedding of it can be cached and shared between runs.
"""

from hashlib import sha256

import numpy as np

from mobilesam_export.images import ImageArray

WHOLE = 0  # number of the view that is the image itself
# Share of the area that a crop keeps at least. Inception's 8 % (Szegedy et al., 2014,
# arXiv:1409.4842) is for classes; a crop that small would show SAM textures only.
LEAST_AREA = 0.25


def view(image: ImageArray, content: str, number: int) -> ImageArray:
    """One version of an image.

    Args:
        image: (height, width, 3) uint8 RGB.
        content: hash of the image, from which chance is seeded.
        number: `WHOLE`, or any other for a crop of the same aspect, mirrored in one of two cases.

    Returns:
        (height', width', 3) uint8, at least one pixel.
    """
    if number == WHOLE:
        return image
    random = chance(content, number)
    share = random.uniform(LEAST_AREA, 1) ** 0.5
    height, width = (max(1, round(share * side)) for side in image.shape[:2])
    top = int(random.integers(0, image.shape[0] - height + 1))
    left = int(random.integers(0, image.shape[1] - width + 1))
    crop = image[top : top + height, left : left + width]
    mirrored = crop[:, ::-1] if random.integers(0, 2) else crop
    return np.ascontiguousarray(mirrored)


def chance(key: str, number: int) -> np.random.Generator:
    """A source of chance that is the same for the same key and number, in any run or process."""
    digest = sha256(f"{key} {number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
