"""Images, prompts and places for masks: what cannot be meant is refused, the rest works."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.images import MAX_PIXELS
from mobilesam_export.scenes import scene
from tests.cli_runner import ERROR, USAGE, refused, refused_cold, snapshot, warm

SCENE = scene(7, 60, 80)  # 80 wide, 60 high


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A image of 80 x 60."""
    path = tmp_path / "photo.png"
    Image.fromarray(SCENE).save(path)
    return path


def png(width: int, height: int) -> bytes:
    """The start of a PNG that declares a size and then holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def save_cut(path: Path, kind: str) -> None:
    Image.fromarray(scene(7, 200, 300)).save(path, kind)
    path.write_bytes(path.read_bytes()[:4000])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "not an image of a known format"),
    "text": (lambda path: path.write_text("a cat on a mat"), "not an image of a known format"),
    "truncated JPEG": (lambda path: save_cut(path, "JPEG"), "truncated"),
    "truncated PNG": (lambda path: save_cut(path, "PNG"), "image"),
    "huge": (lambda path: path.write_bytes(png(40_000, 40_000)), "40000 x 40000; expected"),
    "huge and thin": (lambda path: path.write_bytes(png(MAX_PIXELS + 1, 1)), "megapixels at most"),
    "cut, 144 megapixels": (lambda path: path.write_bytes(png(12_000, 12_000)), "image"),
    "without height": (lambda path: path.write_bytes(png(10, 0)), "image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_image_that_cannot_be_read(name: str, onnx_bundle: Path, tmp_path: Path) -> None:
    make, phrase = BROKEN[name]
    make(tmp_path / "image.png")
    arguments = ["segment", onnx_bundle, "image.png", "--point", "1,1"]
    refused(tmp_path, arguments, ERROR, ["image.png", phrase])


PROMPTS = [
    (["--point", "81,10"], "81,10 is outside the image, which is 80 x 60"),
    (["--point", "10,61"], "10,61 is outside the image, which is 80 x 60"),
    (["--point", "-1,10"], "-1,10 is outside"),
    (["--point", "nan,10"], "nan,10 is outside"),
    (["--point", "10,inf"], "10,inf is outside"),
    (["--point", "1,1", "--point", "99,99,0"], "99,99 is outside"),
    (["--box", "10,10,90,50"], "90,50 is outside"),
    (["--box", "50,10,20,50"], "box 50,10,20,50 is empty; expected X0,Y0,X1,Y1 with X0 < X1"),
    (["--box", "10,50,50,10"], "Y0 < Y1"),
    (["--box", "10,10,10,10"], "is empty"),
    (["--box", "nan,10,20,50"], "outside"),
    ([], "give at least one --point X,Y or a --box X0,Y0,X1,Y1"),
    (["--point", "1,1"] * 7, "takes 7 slots (a box takes two) and this decoder has 6"),
    (["--point", "1,1"] * 5 + ["--box", "1,1,9,9"], "export with --points 7 or more"),
]


@pytest.mark.parametrize(("prompt", "phrase"), PROMPTS)
def test_prompt_that_cannot_be_meant(
    prompt: list[str], phrase: str, onnx_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    refused(tmp_path, ["segment", onnx_bundle, photo, *prompt], USAGE, [phrase])


FORMS = [
    ("--point", "1"),
    ("--point", "a,b"),
    ("--point", ""),
    ("--point", "1,2,3,4"),
    ("--point", "1;2"),
    ("--point", "1,,2"),
    ("--point", "1,2,2"),
    ("--point", "1,2,-1"),
    ("--point", "1,2,nan"),
    ("--box", "1,2"),
    ("--box", "1,2,3"),
    ("--box", "1,2,3,4,5"),
    ("--box", "x0,y0,x1,y1"),
]


@pytest.mark.parametrize(("option", "value"), FORMS)
def test_malformed_prompt(option: str, value: str, tmp_path: Path) -> None:
    phrases = [repr(value), option, "--help"]
    refused_cold(tmp_path, ["segment", "bundle", "photo.png", option, value], USAGE, phrases)


PLACES = [
    (["-o", "mask.jpg"], USAGE, ["mask.jpg", "ends in .png"]),
    (["-o", "mask"], USAGE, ["ends in .png"]),
    (["-o", "gone/mask.png"], USAGE, ["gone/mask.png", "no such folder as gone"]),
    (["-o", "folder.png"], USAGE, ["folder.png"]),
    (["-o", "photo.png/mask.png"], USAGE, ["photo.png/mask.png"]),
    (["--overlay", "overlay.webp"], USAGE, ["overlay.webp", "ends in .png"]),
    (["--overlay", "gone/overlay.png"], USAGE, ["gone/overlay.png"]),
    (["-o", "m" * 300 + ".png"], ERROR, ["too long"]),
    (["-o", "photo.png"], USAGE, ["photo.png", "the image itself"]),
    (["-o", "link.png"], USAGE, ["link.png", "the image itself"]),
    (["--overlay", "./photo.png"], USAGE, ["photo.png", "the image itself"]),
    (["-o", "both.png", "--overlay", "./both.png"], USAGE, ["both.png"]),
]


@pytest.mark.parametrize(("options", "code", "phrases"), PLACES)
def test_place_that_cannot_take_a_mask(
    options: list[str],
    code: int,
    phrases: list[str],
    onnx_bundle: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(photo)
    arguments = ["segment", onnx_bundle, photo, "--point", "1,1", *options]
    refused(tmp_path, arguments, code, phrases)


def test_full_disk_keeps_the_old_mask(onnx_bundle: Path, tmp_path: Path) -> None:
    Image.new("L", (204, 153)).save(tmp_path / "mask.png")
    image = onnx_bundle / "golden" / "landscape" / "image.png"
    arguments = ["segment", onnx_bundle, image, "--point", "80,70"]
    phrases = ["cannot write mask.png", "File too large"]
    refused(tmp_path, arguments, ERROR, phrases, file_limit=1000)  # the new mask takes 2 kB


def test_any_number_of_points_where_the_decoder_takes_them(
    onnx_sam_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    points = [f"--point={x},30" for x in range(1, 60, 5)]
    result = warm(tmp_path, ["segment", onnx_sam_bundle, photo, *points])
    assert result.code == 0, result.stderr
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (80, 60)


# Images that are only unusual. All must give a mask of the size that a viewer shows.


def save_16_bit(path: Path) -> None:
    grey = SCENE[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(path, "PNG")


def save_rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned by 90 degrees
    Image.fromarray(SCENE).save(path, "JPEG", exif=exif)


def save_as(mode: str, kind: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        Image.fromarray(SCENE).convert(mode).save(path, kind)

    return save


def save_size(width: int, height: int) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        Image.fromarray(scene(3, height, width)).save(path, "PNG")

    return save


UNUSUAL: dict[str, tuple[Callable[[Path], None], tuple[int, int]]] = {
    "16-bit grey": (save_16_bit, (80, 60)),
    "CMYK": (save_as("CMYK", "JPEG"), (80, 60)),
    "grey": (save_as("L", "PNG"), (80, 60)),
    "grey and alpha": (save_as("LA", "PNG"), (80, 60)),
    "black and white": (save_as("1", "PNG"), (80, 60)),
    "palette": (save_as("P", "GIF"), (80, 60)),
    "alpha": (save_as("RGBA", "PNG"), (80, 60)),
    "float": (save_as("F", "TIFF"), (80, 60)),
    "rotated": (save_rotated, (60, 80)),
    "one pixel": (save_size(1, 1), (1, 1)),
    "thin": (save_size(1, 2000), (1, 2000)),
    "wide": (save_size(2000, 1), (2000, 1)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_image(name: str, onnx_bundle: Path, tmp_path: Path) -> None:
    save, size = UNUSUAL[name]
    save(tmp_path / "photo")
    before = snapshot(tmp_path)
    outputs = ["-o", "mask.png", "--overlay", "overlay.png"]
    result = warm(tmp_path, ["segment", onnx_bundle, "photo", "--point", "0.5,0.5", *outputs])
    assert result.code == 0, result.stderr
    assert "Warning" not in result.stderr
    for made in ("mask.png", "overlay.png"):
        with Image.open(tmp_path / made) as image:
            assert image.size == size
    assert snapshot(tmp_path).keys() - before.keys() == {"mask.png", "overlay.png", "tmp"}


def test_what_a_rule_decides_of_an_image_is_noted(onnx_bundle: Path, tmp_path: Path) -> None:
    grey = SCENE[..., 0].astype(np.uint16) << 4
    Image.fromarray(np.maximum(grey, 64 << 4)).save(tmp_path / "deep.tif")
    Image.new("RGB", (80, 60), (9, 9, 9)).save(tmp_path / "lid.png")
    for name, note in (
        ("deep.tif", f"image deep.tif is deeper than 8 bits, its largest value is {grey.max()}: "),
        ("lid.png", "image lid.png is of a single color; there is nothing to find"),
    ):
        result = warm(tmp_path, ["segment", onnx_bundle, name, "--point", "9,9"])
        assert result.code == 0, result.stderr
        assert f"\nnote: {note}" in result.stderr
