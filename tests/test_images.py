"""Image files of all kinds become 8-bit RGB, or are refused by name."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mobilesam_export import images
from mobilesam_export.errors import ImageError
from mobilesam_export.images import read_image
from mobilesam_export.scenes import scene

SCENE = scene(3, 30, 40)
GREY = np.asarray(Image.fromarray(SCENE).convert("L"))
ORIENTATION = 0x0112


def save(tmp_path: Path, image: Image.Image, name: str = "p.png", **options: Any) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


def save_array(tmp_path: Path, array: np.ndarray[Any, Any], name: str = "p.tif") -> Path:
    return save(tmp_path, Image.fromarray(array), name)


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(
    orientation: int, name: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path, Image.fromarray(SCENE), name, exif=exif)
    found = read_image(path)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(found.pixels, expected)
    assert found.orientation == orientation
    assert found.notes == ()


def exif_block(kind: int, count: int, value: bytes) -> bytes:
    """An EXIF block of nothing but an orientation of this TIFF type."""
    entry = struct.pack(">HHHI4s", 1, ORIENTATION, kind, count, value)
    return b"Exif\0\0MM\0\x2a\0\0\0\x08" + entry + bytes(4)


SHORT, ASCII = 3, 2


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (SHORT, 1, b"\0\0\0\0"),
        (SHORT, 1, b"\0\x09\0\0"),
        (ASCII, 2, b"6\0\0\0"),
    ],
)
def test_an_orientation_that_does_not_exist_is_none(
    kind: int, count: int, value: bytes, tmp_path: Path
) -> None:
    block = exif_block(kind, count, value)
    found = read_image(save(tmp_path, Image.fromarray(SCENE), exif=block))
    assert found.orientation == 1
    assert np.array_equal(found.pixels, SCENE)


def test_a_damaged_exif_block_is_refused_in_one_line(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(SCENE), exif=b"Exif\0\0XX" + bytes(20))
    with pytest.raises(ImageError, match=r"p\.png has a damaged EXIF block") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_second_damage_to_exif_than_orientation_is_no_matter(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x0110] = 6, "Model"
    block = exif.tobytes().replace(b"Model", b"\xff\xfe\xfd\xfc\xfb")
    found = read_image(save(tmp_path, Image.fromarray(SCENE), exif=block))
    assert np.array_equal(found.pixels, np.rot90(SCENE, -1))


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    path = save(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    assert (images.load_image(path) == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "YCbCr", "LAB"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    found = read_image(save(tmp_path, Image.new(mode, (4, 2)), "p.tiff"))
    assert found.pixels.shape == (2, 4, 3)
    assert found.notes == ()


def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 5)
    with pytest.raises(ImageError, match="3 x 2"):
        read_image(save(tmp_path, Image.new("RGB", (3, 2))))


DEEP: dict[str, tuple[Callable[[], np.ndarray[Any, Any]], str]] = {
    "16 of 16 bits": (lambda: np.maximum(GREY, 64).astype(np.uint16) * 257, ""),
    "14 of 16 bits": (lambda: np.maximum(GREY, 64).astype(np.uint16) << 6, "read as 14-bit"),
    "12 of 16 bits": (lambda: np.maximum(GREY, 64).astype(np.uint16) << 4, "read as 12-bit"),
    "8 of 16 bits": (lambda: np.maximum(GREY, 64).astype(np.uint16), "read as 8-bit"),
    "8 of 32 bits": (lambda: np.maximum(GREY, 64).astype(np.int32), "read as 8-bit"),
    "floats to 1": (lambda: (np.maximum(GREY, 64) / 255).astype(np.float32), "read as 0 to 1"),
    "floats to 255": (lambda: np.maximum(GREY, 64).astype(np.float32), "read as 0 to 255"),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_images_are_scaled_by_their_content(name: str, tmp_path: Path) -> None:
    make, note = DEEP[name]
    found = read_image(save_array(tmp_path, make()))
    assert np.array_equal(found.pixels, np.repeat(np.maximum(GREY, 64)[..., None], 3, axis=2))
    assert note in " ".join(found.notes)
    assert bool(found.notes) == bool(note)


AMBIGUOUS: dict[str, tuple[np.ndarray[Any, Any], str]] = {
    "negative": (np.array([[-5, 90]], np.int32), "integers from -5 to 90"),
    "over 16 bits": (np.array([[0, 70_000]], np.int32), "integers from 0 to 70000"),
    "floats to 5": (np.array([[0, 5]], np.float32), "floats from 0 to 5"),
    "floats to 4095": (np.array([[0, 4095]], np.float32), "floats from 0 to 4095"),
    "negative floats": (np.array([[-1, 1]], np.float32), "floats from -1 to 1"),
    "nan": (np.array([[np.nan, 1]], np.float32), "floats from nan to nan"),
    "infinity": (np.array([[0, np.inf]], np.float32), "floats from 0 to inf"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_values_without_one_meaning_are_refused(name: str, tmp_path: Path) -> None:
    values, said = AMBIGUOUS[name]
    with pytest.raises(ImageError, match=rf"p\.tif holds {said}; expected .* scale it to 8 bits"):
        read_image(save_array(tmp_path, values))


def test_what_resampling_adds_to_floats_is_clipped(tmp_path: Path) -> None:
    values = np.array([[-0.003, 0.5, 1.003]], np.float32)
    assert read_image(save_array(tmp_path, values)).pixels[0, :, 0].tolist() == [0, 128, 255]


def rgb16(path: Path, values: np.ndarray[Any, Any]) -> None:
    """Write a TIFF of 16 bits per channel, which Pillow reads and does not write."""
    height, width, _ = values.shape
    image = Image.frombytes("RGB", (width, height), bytes(3 * width * height))
    image.save(path, "TIFF")
    content = bytearray(path.read_bytes())
    bits = content.index(bytes([8, 0] * 3))  # BitsPerSample
    content[bits : bits + 6] = bytes([16, 0] * 3)
    pixels = len(content) - 3 * width * height
    path.write_bytes(bytes(content[:pixels]) + values.astype("<u2").tobytes())


def test_rgb_of_16_bits_that_uses_12_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    rgb16(path, SCENE.astype(np.uint16) << 8)
    assert np.array_equal(read_image(path).pixels, SCENE)
    rgb16(path, SCENE.astype(np.uint16) << 4)
    with pytest.raises(ImageError, match="16 bits per channel and uses at most 14"):
        read_image(path)


def test_white_that_is_stored_as_0_is_refused_where_pillow_does_not_invert_it(
    tmp_path: Path,
) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) * 257)
    path = save(tmp_path, image, "p.tif", tiffinfo={images.PHOTOMETRIC: 0})
    with pytest.raises(ImageError, match="stores white as 0"):
        read_image(path)


def rgba(alpha: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(np.dstack([SCENE, alpha]))


def test_near_infrared_in_a_tiff_is_no_alpha(tmp_path: Path) -> None:
    infrared = rgba(np.clip(GREY, 1, 254))
    found = read_image(save(tmp_path, infrared, "p.tif"))
    assert np.array_equal(found.pixels, SCENE)
    assert "taken for another band, such as near infrared" in found.notes[0]
    assert not np.array_equal(read_image(save(tmp_path, infrared, "p.png")).pixels, SCENE)


def test_alpha_in_a_tiff_is_alpha(tmp_path: Path) -> None:
    alpha = np.where(GREY > 128, 255, 0).astype(np.uint8)
    found = read_image(save(tmp_path, rgba(alpha), "p.tif"))
    assert (found.pixels[alpha == 0] == 255).all()
    assert np.array_equal(found.pixels[alpha > 0], SCENE[alpha > 0])
    assert found.notes == ()


def test_a_fourth_channel_that_no_tag_calls_alpha_is_left_out(tmp_path: Path) -> None:
    path = save(tmp_path, rgba(np.zeros_like(GREY)), "p.tif")
    content = path.read_bytes()
    unknown = images.EXTRA_SAMPLES.to_bytes(2, "little") + bytes([3, 0, 1, 0, 0, 0])
    assert content.count(unknown + bytes([2, 0])) == 1
    path.write_bytes(content.replace(unknown + bytes([2, 0]), unknown + bytes([0, 0])))
    assert np.array_equal(read_image(path).pixels, SCENE)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ImageError, match=r"p\.png is a Git LFS pointer.*git lfs pull"):
        read_image(tmp_path / "p.png")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(HEIC)
    with pytest.raises(ImageError, match=r"IMG_0001\.HEIC is a HEIC .*pip install pillow-heif"):
        read_image(path)


def test_heic_is_opened_where_its_package_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[None] = []
    package = SimpleNamespace(register_heif_opener=lambda: registered.append(None))
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(HEIC)
    with pytest.raises(ImageError, match="cannot read image"):  # by the package that is none
        read_image(path)
    assert registered


@pytest.mark.parametrize("kind", ["AVIF", "DDS", "WEBP", "JPEG2000", "TIFF", "GIF", "BMP", "PNG"])
def test_cut_files_are_refused_in_one_line(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    path = save(tmp_path, Image.fromarray(SCENE), f"p.{kind.lower()}", format=kind, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ImageError, match=rf"p\.{kind.lower()}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("span", "single"), [(0, True), (1, True), (2, False)])
def test_a_single_color_is_told_from_a_faint_image(span: int, single: bool) -> None:
    pixels = np.full((4, 5, 3), 254 - span, np.uint8)
    pixels[1, 2, 1] += span
    assert images.is_single_color(pixels) == single
