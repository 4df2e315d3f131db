"""Image files of phones, scanners, cameras and GIS tools -> (height, width, 3) uint8 RGB.

A file that cannot be read, or whose values have more than one meaning, is refused by name; where a
rule decides, the image comes with a note that states it.

Rule for channels deeper than 8 bits. Files rarely say which part of their range they use, so that
content decides:

- Integers, one channel: the range is that of the fewest of 8, 10, 12, 14 or 16 bits that hold the
  largest value; the 8 most significant of these bits are kept, as Pillow does for 16-bit RGB.
- Integers, several channels: Pillow hands on the 8 most significant of 16 bits. Where these show
  that two or more of the 16 are unused, the image is refused.
- Floats: 0 to 1 if none is larger, 0 to 255 if the largest is at least `LEAST_FLOAT_MAXIMUM`.
- Anything else (negative, larger, not finite) is refused.

Rule for transparency: shown on white, as a viewer does. A fourth channel of a TIFF is left out if
the file does not declare it as alpha, or if more than half of its values are neither 0 nor 255:
this is how near infrared looks, and transparency does not.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobilesam_export.errors import ImageError, one_line
from mobilesam_export.files import LFS_POINTER
from mobilesam_export.quiet import quiet_descriptors

ImageArray = NDArray[np.uint8]  # (height, width, 3) RGB
# What folders are searched for; HEIC so that its files are named and not passed over.
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".png"),
    *(".tif", ".tiff", ".webp"),
)
MAX_PIXELS = 200_000_000  # a 600 MB array; beyond that a small file can fill the memory
Image.MAX_IMAGE_PIXELS = None  # Pillow's own, lower limit; ours is checked before decoding
WHITE = (255, 255, 255, 255)
ORIENTATION, EXTRA_SAMPLES, PHOTOMETRIC = 0x0112, 338, 262  # TIFF and EXIF tags
WHITE_IS_ZERO = 0  # of PHOTOMETRIC
ALPHA_KINDS = {1, 2}  # of EXTRA_SAMPLES: associated and unassociated alpha (TIFF 6.0, page 31)
BIT_DEPTHS = (8, 10, 12, 14, 16)
UNUSED_BITS_MAXIMUM = 63  # of the upper 8 of 16 bits, if at most 14 of the 16 are in use
LEAST_FLOAT_MAXIMUM = 16  # a maximum between 1 and this is too dark for 0..255, too large for 0..1
FLOAT_OVERSHOOT = 1 / 255  # of the range: what resampling leaves outside it
SINGLE_COLOR_RANGE = 1  # bytes; a sensor's noise is larger
# ISO/IEC 23008-12, and "mif1", "msf1", which HEIC shares with AVIF.
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class LoadedImage:
    """An image as a viewer shows it.

    Attributes:
        pixels: (height, width, 3) uint8 RGB, EXIF orientation applied.
        orientation: EXIF orientation of the file, 1 to 8 (1: stored as shown).
        notes: which rule decided where the file does not say what its values mean.
    """

    pixels: ImageArray
    orientation: int = 1
    notes: tuple[str, ...] = ()


def load_image(path: Path) -> ImageArray:
    """`read_image` without its notes."""
    return read_image(path).pixels


def read_image(path: Path) -> LoadedImage:
    """Read an image file by the rules above.

    Raises:
        ImageError: there is no such file, it is no image, is damaged or ambiguous, has over
            MAX_PIXELS, or needs a package that is not installed.
    """
    try:
        with quiet_descriptors(), _open(path) as image:  # libtiff writes to stderr
            return _decode(image, path)
    except ImageError:
        raise
    except OSError as exc:
        raise ImageError(f"cannot read image {path}: {one_line(exc.strerror or exc)}") from exc
    except Exception as exc:  # damaged bytes raise anything in Pillow's parsers
        raise ImageError(
            f"image {path} is damaged or of a rare kind ({type(exc).__name__}: {one_line(exc)}); "
            "save it again as PNG or JPEG"
        ) from exc


def upright(array: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """An array (height, width, ...) in the frame in which an image is shown.

    Args:
        array: in the frame in which the image is stored.
        orientation: EXIF orientation, 1 to 8 (CIPA DC-008, 4.6.5: "Orientation").
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    # After the transpose, 6 and 7 are mirrored from left to right, 7 and 8 from top to bottom.
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def is_single_color(pixels: ImageArray) -> bool:
    """Whether no channel spans more than `SINGLE_COLOR_RANGE`."""
    spans = pixels.max(axis=(0, 1)).astype(int) - pixels.min(axis=(0, 1))
    return bool(spans.max() <= SINGLE_COLOR_RANGE)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError as exc:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start.startswith(TIFF_MAGIC):
            raise ImageError(
                f"{path} is a TIFF of a kind that Pillow does not read, or a damaged one; "
                "save it as 8-bit RGB"
            ) from exc
        if start == LFS_POINTER:
            raise ImageError(
                f"{path} is a Git LFS pointer, not the image itself; run `git lfs pull`"
            ) from exc
        if start[4:8] != b"ftyp" or start[8:12] not in HEIC_BRANDS:
            raise ImageError(f"{path} is not an image of a known format (PNG, JPEG, ...)") from exc
    return _open_heic(path)


def _open_heic(path: Path) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as exc:
        raise ImageError(
            f"{path} is a HEIC image; run `pip install pillow-heif`, or convert it to JPEG or PNG"
        ) from exc
    pillow_heif.register_heif_opener()
    return Image.open(path)


def _decode(image: Image.Image, path: Path) -> LoadedImage:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        limit = f"1 pixel to {MAX_PIXELS // 1_000_000} megapixels"
        raise ImageError(f"image {path} is {width} x {height}; expected {limit} at most")
    tags = dict(getattr(image, "tag_v2", {}))
    applied = _orientation(image, path) if tags else 1  # by Pillow on loading, to TIFF files only
    # Pillow names the layout of the stored samples; "RGB;16B" becomes mode "RGB".
    deep = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    image.load()
    if deep and not image.mode.startswith("I") and _brightest(image) <= UNUSED_BITS_MAXIMUM:
        raise ImageError(
            f"image {path} has 16 bits per channel and uses at most 14 of them; "
            "scale it to 8 bits per channel"
        )
    pixels, notes = _as_rgb(image, tags, path)
    remaining = _orientation(image, path)
    shown = np.ascontiguousarray(upright(pixels, remaining), np.uint8)
    return LoadedImage(shown, remaining if applied == 1 else applied, notes)


def _orientation(image: Image.Image, path: Path) -> int:
    """The EXIF orientation; 1 where there is none, or none that is a whole number of 1 to 8."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception as exc:
        raise ImageError(
            f"image {path} has a damaged EXIF block ({type(exc).__name__}: {one_line(exc)}); its "
            "orientation is unknown: save the image again without metadata"
        ) from exc
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _brightest(image: Image.Image) -> int:
    """The largest value of any channel but alpha."""
    bands = image.split()
    return max(int(np.asarray(band).max()) for band in bands[: 3 if len(bands) >= 3 else 1])


def _as_rgb(
    image: Image.Image, tags: dict[int, object], path: Path
) -> tuple[ImageArray, tuple[str, ...]]:
    if image.mode.startswith("I"):
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts it up to 8 bits only
            raise ImageError(f"image {path} stores white as 0; invert it and save it as 8-bit")
        grey, notes = _scaled_integers(np.asarray(image), path)
        return np.repeat(grey[..., None], 3, axis=2), notes
    if image.mode == "F":
        grey, notes = _scaled_floats(np.asarray(image), path)
        return np.repeat(grey[..., None], 3, axis=2), notes
    has_alpha = image.mode != "LAB" and {"A", "a"} & {*image.getbands()}  # LAB's A is green to red
    if has_alpha or "transparency" in image.info:
        if image.mode == "La":  # Pillow has no conversion from it to RGBA
            image = image.convert("LA")
        layer = image.convert("RGBA")
        if note := _not_alpha(np.asarray(layer.getchannel("A")), image, tags, path):
            return np.array(layer.convert("RGB")), (note,)
        white = Image.new("RGBA", layer.size, WHITE)
        return np.array(Image.alpha_composite(white, layer).convert("RGB")), ()
    return np.array(image.convert("RGB")), ()


def _scaled_integers(
    values: NDArray[np.integer], path: Path
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2 ** BIT_DEPTHS[-1]:
        raise ImageError(
            f"image {path} holds integers from {low} to {high}; expected 0 to 65535: "
            "scale it to 8 bits"
        )
    bits = next(bits for bits in BIT_DEPTHS if high < 2**bits)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if bits == BIT_DEPTHS[-1]:
        return grey, ()
    note = f"image {path} is deeper than 8 bits, its largest value is {high}: read as {bits}-bit"
    return grey, (note,)


def _scaled_floats(
    values: NDArray[np.floating], path: Path
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    low, high = float(values.min()), float(values.max())
    top = 1 if high <= 1 + FLOAT_OVERSHOOT else 255
    inside = -FLOAT_OVERSHOOT * top <= low and high <= (1 + FLOAT_OVERSHOOT) * top
    if not inside or (top == 255 and high < LEAST_FLOAT_MAXIMUM):  # NaN is not inside
        raise ImageError(
            f"image {path} holds floats from {low:g} to {high:g}; expected 0 to 1 or 0 to 255: "
            "scale it to 8 bits"
        )
    grey = (values.clip(0, top) * (255 / top)).round().astype(np.uint8)
    return grey, (f"image {path} holds floats up to {high:g}: read as 0 to {top}",)


def _not_alpha(
    alpha: NDArray[np.uint8], image: Image.Image, tags: dict[int, object], path: Path
) -> str | None:
    """Why the fourth channel of a TIFF is no transparency; None if it is, or is no TIFF's."""
    if image.format != "TIFF" or "transparency" in image.info:
        return None
    declared = tags.get(EXTRA_SAMPLES)
    kinds = set(declared) if isinstance(declared, tuple) else {declared}
    if not kinds & ALPHA_KINDS:
        return f"image {path} has a further channel, not declared as alpha: left out"
    partial = float(((alpha > 0) & (alpha < 255)).mean())
    if partial > 0.5:
        return (
            f"image {path} has an alpha channel, {partial:.0%} of it neither 0 nor 255: taken for "
            "another band, such as near infrared, and left out"
        )
    return None
