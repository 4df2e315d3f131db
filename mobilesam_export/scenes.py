"""Seeded images of layered shapes with exact masks: something that belongs to nobody.

They are what the demo weights are trained on, and what `verify`, calibration and the tests use
where the user gives no images. Shapes lie in layers, so the mask of one is what the later ones
leave visible of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mobilesam_export.prompts import ImageArray

# Training draws its seeds from here upwards, everything else from below: held out.
TRAINING_SEEDS = 1_000_000
FEWEST_SHAPES, MOST_SHAPES = 3, 9
# A shape of which less is visible is no object: of the image, and of the shape itself.
LEAST_AREA, LEAST_VISIBLE = 1e-3, 0.35
LEAST_CONTRAST = 35.0  # distance in RGB to what lies below: an object can be seen

SHARES = (0.28, 0.26, 0.26, 0.08, 0.12)  # of polygons, ellipses, blobs, rings, bands

Surface = NDArray[np.float32]  # (height, width, 3) on the scale 0..255
Mask = NDArray[np.bool_]
Generator = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """A image and the objects in it.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        masks: (objects, height, width) bool; exact, disjoint, the visible part of each object.
    """

    image: ImageArray
    masks: Mask


def shape(number: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of one of several scenes for an input: 4:3, 2:3, all of it, and so on.

    Photographs are seldom square, so they are padded, and what was trained or calibrated on full
    inputs alone does worse on them (benchmarks/README.md, Recovery).

    Args:
        number: of the scene, from 0.
        height: of the input, in pixels.
        width: of the input.
    """
    shapes = [(height * 3 // 4, width), (height, width * 2 // 3), (height, width)]
    return shapes[number % len(shapes)]


def scene(seed: int, height: int, width: int) -> ImageArray:
    """The image alone; see `masked_scene`."""
    return masked_scene(seed, height, width).image


def masked_scene(seed: int, height: int, width: int) -> Scene:
    """Draw shapes over each other, each with its own surface, then photograph them.

    Args:
        seed: the same seed and size give the same scene.
        height: pixels, 1 or more.
        width: pixels, 1 or more.
    """
    random = np.random.default_rng(seed)
    canvas = _surface(random, (height, width), random.uniform(0, 255, 3))
    owner = np.zeros((height, width), np.uint8)
    count = int(random.integers(FEWEST_SHAPES, MOST_SHAPES + 1))
    drawn = np.zeros(count + 1)
    for number in range(1, count + 1):
        rows, columns, inside = _shape(random, height, width)
        if not inside.any():  # between two pixels, in a very small image
            continue
        below = canvas[rows, columns]
        surface = _surface(random, inside.shape, _color(random, below[inside].mean(axis=0)))
        below[inside] = surface[inside]
        owner[rows, columns][inside] = number
        drawn[number] = inside.sum()
    areas = np.bincount(owner.ravel(), minlength=count + 1)
    least = np.maximum(LEAST_VISIBLE * drawn, LEAST_AREA * owner.size)
    masks = [owner == number for number in range(1, count + 1) if areas[number] > least[number]]
    return Scene(_photograph(random, canvas), np.array(masks).reshape(-1, height, width))


def innermost_point(mask: Mask) -> tuple[float, float]:
    """x, y in pixels of the point of a mask that is farthest from its border: a good click."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return float(x) + 0.5, float(y) + 0.5


def bounding_box(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in pixels, of a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _color(random: Generator, below: NDArray[np.float32]) -> NDArray[np.float64]:
    """A random colour that can be told from the one below it."""
    color = random.uniform(0, 255, 3)
    while np.linalg.norm(color - below) < LEAST_CONTRAST:
        color = random.uniform(0, 255, 3)
    return color


def _surface(random: Generator, size: tuple[int, ...], color: NDArray[np.float64]) -> Surface:
    """One colour with a gradient and, in two of three cases, a texture."""
    height, width = size
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    angle = random.uniform(0, 2 * np.pi)
    light = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    light *= np.float32(random.uniform(0, 30))
    kind = int(random.integers(0, 6))
    if kind >= 2:
        light += np.float32(random.uniform(8, 40)) * _texture(random, x, y, kind)
    tint = random.uniform(0.6, 1.4, 3).astype(np.float32)  # shades are not all grey
    return light[..., None] * tint + color.astype(np.float32)


def _texture(random: Generator, x: Surface, y: Surface, kind: int) -> Surface:
    """Values around -1..1 for each pixel: stripes, checks, spots or clouds."""
    angle, rate = random.uniform(0, np.pi), random.uniform(6, 30)
    cos, sin = np.float32(rate * np.cos(angle)), np.float32(rate * np.sin(angle))
    if kind == 2:
        wave: Surface = np.sin(cos * x + sin * y)
        return wave
    if kind == 3:
        checks: Surface = np.sign(np.sin(cos * x + sin * y) * np.sin(cos * y - sin * x))
        return checks
    if kind == 4:
        spots: Surface = np.cos(cos * x) * np.cos(cos * y) + np.zeros_like(x + y)
        return spots
    return _clouds(random, len(y), x.shape[1])


def _clouds(random: Generator, height: int, width: int) -> Surface:
    """Smooth noise, about -1..1."""
    cells = int(random.integers(3, 24))
    grid = Image.fromarray(random.normal(0, 0.5, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def _shape(random: Generator, height: int, width: int) -> tuple[slice, slice, Mask]:
    """Where a random shape is: its rows and columns, and a mask of that part of the image."""
    side = max(height, width)
    center = random.uniform(0.05, 0.95, 2) * (width, height)
    outlines = [center + side * outline for outline in _outlines(random)]
    corners = np.concatenate(outlines)
    first = np.clip(np.floor(corners.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    last = np.clip(np.ceil(corners.max(axis=0)), 0, (width - 1, height - 1)).astype(int) + 1
    image = Image.new("1", tuple(last - first))
    draw = ImageDraw.Draw(image)
    for color, outline in zip((1, 0), outlines, strict=False):  # the second one is a hole
        draw.polygon([(float(px), float(py)) for px, py in outline - first], fill=color)
    return slice(first[1], last[1]), slice(first[0], last[0]), np.array(image)


def _outlines(random: Generator) -> list[NDArray[np.float64]]:
    """Corners (n, 2) around 0, in units of the image's longer side; a ring has a second, inner.

    Polygon, ellipse, blob, ring, or a thin bent band.
    """
    kind = int(random.choice(5, p=SHARES))
    size = random.uniform(0.04, 0.26)
    if kind == 4:
        return [_band(random, size * 1.5)]
    corners = int(random.integers(3, 8)) if kind == 0 else 72
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + random.uniform(0, 2 * np.pi)
    radii = np.full(corners, size)
    if kind == 0:
        radii *= random.uniform(0.6, 1.2, corners)
    if kind == 2:
        for waves in range(2, 6):
            radii *= 1 + random.uniform(0, 0.22) * np.cos(waves * angles + random.uniform(0, 6))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    points = _turned(random, points * (1, random.uniform(0.4, 1)))
    return [points, points * random.uniform(0.4, 0.75)] if kind == 3 else [points]


def _band(random: Generator, length: float) -> NDArray[np.float64]:
    """A thin band along an arc."""
    along = np.linspace(-1, 1, 24)
    bend = random.uniform(-0.6, 0.6)
    thickness = random.uniform(0.06, 0.16)
    upper = np.stack([along, bend * along**2 + thickness], axis=1)
    lower = np.stack([along, bend * along**2 - thickness], axis=1)
    return _turned(random, np.concatenate([upper, lower[::-1]]) * length)


def _turned(random: Generator, points: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = random.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def _photograph(random: Generator, canvas: Surface) -> ImageArray:
    """Uneven light, a lens that is not quite sharp, and a sensor with noise."""
    from scipy.ndimage import gaussian_filter

    height, width, _ = canvas.shape
    light = 1 + random.uniform(0, 0.25) * _clouds(random, height, width)
    lit = canvas * light[..., None]
    sigma = random.uniform(0.3, 1.2) * max(1.0, max(height, width) / 512)
    blurred = gaussian_filter(lit, (sigma, sigma, 0), truncate=2.5)
    grain = random.standard_normal(canvas.shape, dtype=np.float32)
    noisy = blurred + np.float32(random.uniform(0, 8)) * grain
    return np.asarray(np.clip(noisy, 0, 255).astype(np.uint8))
