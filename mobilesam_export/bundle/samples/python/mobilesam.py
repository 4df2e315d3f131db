"""MobileSAM from a bundle's files: an image once, then a mask for each prompt.

    pip install numpy pillow onnxruntime        # .onnx files
    pip install numpy pillow ai-edge-litert     # .tflite files

    sam = MobileSAM()                           # the bundle that this file lies in
    sam.set_image("photo.jpg")
    result = sam.segment(points=[(320, 240, 1)])
    PIL.Image.fromarray(result.mask).save("mask.png")

Run as a program it is the self-test: it computes the bundle's golden vectors, prints how far its
own results are from PyTorch's, and exits with 0 or, if a limit is missed or a file damaged, 1.

Not thread-safe: one object per thread. Loading takes about a second; `warm_up` after it makes the
first image as fast as later ones, as the runtime allocates its memory then.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from sam_contract import Contract, Floats, Points, Result
from sam_errors import (
    BundleFileError,
    ImageError,
    MobileSAMError,
    NoImageError,
    PromptError,
    TooManyPointsError,
)
from sam_runtimes import LOADERS, Run

__all__ = [
    "BundleFileError",
    "ImageError",
    "MobileSAM",
    "MobileSAMError",
    "NoImageError",
    "PromptError",
    "Result",
    "TooManyPointsError",
]

BUNDLE = Path(__file__).resolve().parents[2]  # this file is BUNDLE/sample/python/mobilesam.py


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
        self.contract = Contract(self.manifest)
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
        embeddings: Floats = self._encode(self.contract.encoder_inputs(upright))["image_embeddings"]
        self._embeddings, self._size = embeddings, upright.size
        return embeddings

    def segment(
        self,
        points: Points = (),
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
        inputs = self.contract.decoder_inputs(
            points, box, previous_mask, self._embeddings, self._size
        )
        return self.contract.result(self._decode(inputs), points, box, self._size)

    def warm_up(self) -> None:
        """Run both files once on nothing, so that the first image is as fast as later ones."""
        blank = Image.new("RGB", (self.contract.width, self.contract.height))
        embeddings = self._encode(self.contract.encoder_inputs(blank))["image_embeddings"]
        inputs = self.contract.decoder_inputs([(0, 0, 1)], None, None, embeddings, blank.size)
        self._decode(inputs)

    def self_test(self) -> bool:
        """Compute the bundle's golden vectors and print how far they are from PyTorch's.

        Returns:
            Whether every limit in the bundle's manifest is kept.

        Raises:
            BundleFileError: a golden file is missing or damaged.
        """
        from sam_selftest import check_golden

        passed = True
        for check in check_golden(self):
            sys.stdout.write(f"{check}\n")
            passed = passed and check.passed
        return passed

    def close(self) -> None:
        """Let go of the runtime's memory; the object cannot be used afterwards."""
        self._embeddings = None
        self._encode = self._decode = _closed

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
