"""MobileSAM from a bundle's files: an image once, then a mask for each prompt.

    pip install numpy pillow onnxruntime        # .onnx files
    pip install numpy pillow ai-edge-litert     # .tflite files

    sam = MobileSAM()                           # the bundle that this file lies in
    sam.set_image("photo.jpg")
    result = sam.segment(points=[(320, 240, 1)])
    PIL.Image.fromarray(result.mask).save("mask.png")

Run as a program it is the self-test: it computes the bundle's golden vectors, prints how far its
own results are from PyTorch's, and exits with 0 or, if a limit is missed or a file damaged, 1.

Not thread-safe: one object per thread. Loading takes about a second; the first image takes longer
than later ones because the runtime allocates its memory then.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from runtimes import LOADERS, Run

BUNDLE = Path(__file__).resolve().parents[2]  # this file is BUNDLE/sample/python/mobilesam.py
FOREGROUND, BACKGROUND, TOP_LEFT, BOTTOM_RIGHT, EMPTY = 1, 0, 2, 3, -1
FILL = (124, 116, 104)  # of the padding: the bytes nearest to the model's mean

Floats = NDArray[np.float32]


class MobileSAMError(Exception):
    """The base of all errors here."""


class BundleFileError(MobileSAMError):
    """A file of the bundle is missing, damaged, or cannot be loaded."""


class ImageError(MobileSAMError):
    """What was given is not an image that can be read."""


class NoImageError(MobileSAMError):
    """`segment` was called before `set_image`."""


class PromptError(MobileSAMError):
    """The prompt is empty, outside the image, or of a wrong form."""


class TooManyPointsError(PromptError):
    """The decoder has fewer slots than the prompt takes; a box takes two."""


@dataclass(frozen=True)
class Result:
    """The answer to one prompt.

    Attributes:
        mask: (height, width) bool, of the image's size.
        score: the model's own estimate of the mask's IoU, about 0 to 1.
        logits: (1, 1, S/4, S/4) float32; pass it as `previous_mask` to refine this mask.
    """

    mask: NDArray[np.bool_]
    score: float
    logits: Floats


class MobileSAM:
    """The encoder and the decoder of one bundle, and the embedding of one image."""

    def __init__(self, bundle: str | Path = BUNDLE, threads: int = 0) -> None:
        """Check the bundle's files and load them.

        Args:
            bundle: its folder.
            threads: of the CPU; 0 leaves it to the runtime.

        Raises:
            BundleFileError: a file is missing or damaged, or its runtime is not installed.
        """
        self.bundle = Path(bundle)
        self.manifest = _read_manifest(self.bundle)
        contract = self.manifest["contract"]
        self.side: int = contract["image_size"]
        self.slots: int = contract["points"]
        self._dtype = np.dtype(contract["encoder"]["inputs"][0]["dtype"])
        self._encode = self._load("encoder", threads)
        self._decode = self._load("decoder", threads)
        self._embeddings: Floats | None = None
        self._size = (0, 0)

    def set_image(self, image: str | Path | Image.Image) -> Floats:
        """Run the encoder; all later prompts are about this image.

        Args:
            image: a file, or an image of Pillow's; EXIF rotation is applied.

        Returns:
            The embedding (1, 256, S/16, S/16), which is kept until the next image.

        Raises:
            ImageError: it cannot be read.
        """
        upright = open_image(image)
        pixels = self.preprocess(upright)
        embeddings: Floats = self._encode({"image": pixels.astype(self._dtype)})["image_embeddings"]
        self._embeddings, self._size = embeddings, upright.size
        return embeddings

    def segment(
        self,
        points: Sequence[tuple[float, float, int]] = (),
        box: Sequence[float] | None = None,
        previous_mask: Floats | None = None,
    ) -> Result:
        """Run the decoder.

        Args:
            points: x, y in pixels of the image from its top left, and 1 (part of it) or 0.
            box: x0, y0, x1, y1 in pixels of the image.
            previous_mask: `logits` of an earlier result, to refine it with further points.

        Raises:
            NoImageError: there is no image yet.
            PromptError: the prompt has no answer.
        """
        if self._embeddings is None:
            raise NoImageError("no image yet: call set_image first")
        if not points and box is None and previous_mask is None:
            raise PromptError("nothing to segment: give a point or a box")
        coords, labels = self._slots(points, box)
        outputs = self._decode(
            {
                "image_embeddings": self._embeddings,
                "point_coords": coords,
                "point_labels": labels,
                "mask_input": self._mask_input(previous_mask),
                "has_mask_input": np.array([previous_mask is not None], np.float32),
            }
        )
        scores = outputs["iou_predictions"][0]
        # One click is ambiguous (a button, a shirt, a person?): the best of three. Else mask 0.
        single = len(points) == 1 and box is None
        index = 1 + int(scores[1:].argmax()) if single else 0
        logits = np.array(outputs["low_res_masks"][:, index : index + 1])
        return Result(self._upscale(logits[0, 0]) > 0, float(scores[index]), logits)

    def self_test(self) -> bool:
        """Compute the bundle's golden vectors and print how far they are from PyTorch's.

        Returns:
            Whether every limit in the bundle's manifest is kept.

        Raises:
            BundleFileError: a golden file is missing or damaged.
        """
        from selftest import check_golden

        passed = True
        for check in check_golden(self):
            sys.stdout.write(f"{check}\n")
            passed = passed and check.passed
        return passed

    def close(self) -> None:
        """Let go of the runtime's memory; the object cannot be used afterwards."""
        self._embeddings = None
        self._encode = self._decode = _closed

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """The encoder's input (1, S, S, 3): longest side S, antialiased bilinear, top left."""
        width, height = self._resized(image.size)
        square = np.full((1, self.side, self.side, 3), FILL, np.uint8)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        square[0, :height, :width] = np.asarray(resized)
        return square

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after resizing, rounded half up."""
        factor = self.side / max(size)
        width, height = (max(1, int(side * factor + 0.5)) for side in size)
        return width, height

    def _slots(
        self, points: Sequence[tuple[float, float, int]], box: Sequence[float] | None
    ) -> tuple[Floats, Floats]:
        """A prompt in the decoder's slots: coordinates (1, N, 2) and labels (1, N)."""
        filled = [(float(x), float(y), int(label)) for x, y, label in points]
        if any(label not in (FOREGROUND, BACKGROUND) for _, _, label in filled):
            raise PromptError("a point is (x, y, label) with label 1 (part of it) or 0")
        if box is not None:
            x0, y0, x1, y1 = box
            if not (x0 < x1 and y0 < y1):
                raise PromptError(f"box {tuple(box)} is empty; expected x0 < x1 and y0 < y1")
            filled += [(x0, y0, TOP_LEFT), (x1, y1, BOTTOM_RIGHT)]
        if len(filled) > self.slots:
            raise TooManyPointsError(
                f"{len(filled)} points, a box counting as two; this decoder takes {self.slots}"
            )
        width, height = self._size
        for x, y, _ in filled:
            if not (0 <= x <= width and 0 <= y <= height):
                raise PromptError(f"{x:g},{y:g} is outside the image, which is {width} x {height}")
        coords = np.zeros((1, self.slots, 2), np.float32)
        labels = np.full((1, self.slots), EMPTY, np.float32)
        columns, rows = self._resized(self._size)
        for slot, (x, y, label) in enumerate(filled):
            coords[0, slot] = x * (columns / width), y * (rows / height)
            labels[0, slot] = label
        return coords, labels

    def _mask_input(self, previous_mask: Floats | None) -> Floats:
        shape = (1, 1, self.side // 4, self.side // 4)
        if previous_mask is None:
            return np.zeros(shape, np.float32)
        if previous_mask.shape != shape:
            raise PromptError(f"previous_mask is {previous_mask.shape}; expected {shape}")
        return previous_mask

    def _upscale(self, logits: Floats) -> Floats:
        """(S/4, S/4) logits to the image's size, by way of S x S without the padding."""
        width, height = self._resized(self._size)
        square = _bilinear(logits, (self.side, self.side))
        return _bilinear(square[:height, :width], (self._size[1], self._size[0]))

    def verified(self, name: str) -> Path:
        """The path of a bundle's file, which is as it was exported.

        Raises:
            BundleFileError: it is missing or damaged.
        """
        path, entry = self.bundle / name, self.manifest["files"].get(name)
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise BundleFileError(f"cannot read {path}: {exc.strerror}") from exc
        if entry is None or hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BundleFileError(f"{path} is damaged: it is not the file that was exported")
        return path

    def _load(self, graph: str, threads: int) -> Run:
        backend = self.manifest["backend"]
        loader = LOADERS.get(backend)
        if loader is None:
            raise BundleFileError(f"this sample runs {', '.join(LOADERS)} files, found {backend}")
        path = self.verified(f"{graph}.{backend}")
        try:
            return loader(path, graph, threads)
        except ImportError as exc:
            raise BundleFileError(f"{path.name} needs {exc.name}, which is not installed") from exc
        except Exception as exc:
            raise BundleFileError(f"cannot load {path}: {exc}") from exc


def open_image(image: str | Path | Image.Image) -> Image.Image:
    """RGB, as a viewer shows it: with the EXIF rotation applied.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        opened = image if isinstance(image, Image.Image) else Image.open(image)
        return ImageOps.exif_transpose(opened).convert("RGB")
    except UnidentifiedImageError as exc:
        raise ImageError(f"{image} is not an image of a known format (PNG, JPEG, ...)") from exc
    except OSError as exc:
        raise ImageError(f"cannot read image {image}: {exc.strerror or exc}") from exc
    except Exception as exc:  # damaged bytes raise anything in Pillow's parsers
        raise ImageError(f"image {image} is damaged or too large ({exc})") from exc


def _read_manifest(bundle: Path) -> dict[str, Any]:
    path = bundle / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BundleFileError(f"{bundle} is not a bundle: cannot read manifest.json") from exc
    return manifest


def _closed(_: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    raise MobileSAMError("this MobileSAM is closed")


def _bilinear(values: Floats, size: tuple[int, int]) -> Floats:
    """To (height, width): pixel centers at .5, no antialiasing, as torch's interpolate."""
    for axis, count in enumerate(size):
        length = values.shape[axis]
        scale, half = np.float32(length / count), np.float32(0.5)
        at = np.clip((np.arange(count, dtype=np.float32) + half) * scale - half, 0, length - 1)
        low = at.astype(int)
        share = (at - low.astype(np.float32)).reshape((-1, 1) if axis == 0 else (1, -1))
        first = values.take(low, axis)
        values = first + (values.take(np.minimum(low + 1, length - 1), axis) - first) * share
    return values


def main() -> None:
    """The self-test; exits with 0 if all is as it should be, otherwise with 1."""
    sys.modules.setdefault("mobilesam", sys.modules[__name__])  # one module, not a second copy
    try:
        sam = MobileSAM()
        sys.exit(0 if sam.self_test() else 1)
    except MobileSAMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
