"""A small scene -> a large JPEG as phones store it: sideways, with its orientation in EXIF.

It shows what apps get wrong: an image that must be made smaller, and one that must be turned.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mobilesam_export.images import ORIENTATION, ImageArray, upright

LONG_SIDE = 2112  # pixels; larger than inputs of up to 1988 and no multiple of the usual 1024
LEAST_REDUCTION = 17 / 16  # of the longest side, for inputs that are larger still
TURNED = 6  # EXIF orientation of an upright portrait (CIPA DC-008, 4.6.5): shown turned clockwise
QUALITY = 90
# Of a checkerboard of single pixels, on the scale 0..255. Filters that smooth remove it; without
# one, stripes remain that are in no scene. A block of JPEG holds 8 x 8 pixels, so that the
# checkerboard is the same in every block and costs few bytes.
CONTRAST = 16


@dataclass(frozen=True)
class Photograph:
    """A JPEG file and what a viewer shows of it.

    Attributes:
        image: (height, width, 3) uint8 RGB, as decoded and turned upright.
        jpeg: the file, with EXIF orientation `TURNED`.
    """

    image: ImageArray
    jpeg: bytes


def photograph(image: ImageArray, image_size: int) -> Photograph:
    """Enlarge a portrait with fine detail, turn it and store it as JPEG.

    Args:
        image: (height, width, 3) uint8 RGB; the same gives the same bytes.
        image_size: side of the encoder's input in pixels; the photograph is larger.
    """
    height, width, _ = image.shape
    scale = max(LONG_SIDE, round(image_size * LEAST_REDUCTION)) / max(height, width)
    size = (round(width * scale), round(height * scale))
    large = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    detailed = Image.fromarray(_with_checkerboard(np.asarray(large)))
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    file = io.BytesIO()
    # Without chroma subsampling: decoders differ in how they undo it.
    detailed.transpose(Image.Transpose.ROTATE_90).save(
        file, "JPEG", quality=QUALITY, subsampling="4:4:4", exif=exif
    )
    with Image.open(file) as stored:
        shown = upright(np.asarray(stored), TURNED)
    return Photograph(np.ascontiguousarray(shown, np.uint8), file.getvalue())


def _with_checkerboard(image: ImageArray) -> ImageArray:
    """The image with every second pixel lighter and the others darker by `CONTRAST`."""
    result = np.clip(image, CONTRAST, 255 - CONTRAST)
    result[::2, ::2] += CONTRAST
    result[1::2, 1::2] += CONTRAST
    result[::2, 1::2] -= CONTRAST
    result[1::2, ::2] -= CONTRAST
    return result
