"""Seeded pictures of shapes: something to verify and calibrate on that belongs to nobody."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mobilesam_export.prompts import Picture

SHAPES = 7


def scene(seed: int, height: int, width: int) -> Picture:
    """A gradient, some shapes of their own colour, a little blur and noise.

    Args:
        seed: the same seed and size give the same picture.
        height: pixels, 1 or more.
        width: pixels, 1 or more.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    random = np.random.default_rng(seed)
    first, last = random.uniform(0, 255, (2, 1, 1, 3))
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 1))
    image = Image.fromarray((first + (last - first) * ramp).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        color = tuple(int(c) for c in random.integers(0, 256, 3))
        corners = _outline(random) * (width, height)
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=color)
    image = image.filter(ImageFilter.GaussianBlur(max(height, width) / 512))
    noisy = np.asarray(image) + random.normal(0, 4, (height, width, 3))
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


def _outline(random: np.random.Generator) -> NDArray[np.float64]:
    """Corners of a polygon or of something round, (n, 2) in units of the picture."""
    corners = int(random.choice([3, 4, 5, 48]))
    angles = 2 * np.pi * np.arange(corners) / corners + random.uniform(0, 2 * np.pi)
    radii = random.uniform(0.08, 0.3, 2)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return random.uniform(0.1, 0.9, 2) + circle * radii
