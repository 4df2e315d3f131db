"""A bundle and PyTorch asked the same: an image and a prompt -> two masks and their IoU."""

import base64
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilesam_export import images, prompts
from mobilesam_export.errors import ImageError, UsageError
from mobilesam_export.images import ImageArray
from mobilesam_export.metrics import mask_iou
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.prompts import Prompt

SHOWN = 2048  # pixels of the longest side of what the page gets
UPLOAD = "the image"


@dataclass(frozen=True)
class Shown:
    """The current image as both have encoded it."""

    pixels: ImageArray
    bundle: EmbeddedImage
    pytorch: EmbeddedImage


class Pair:
    """Both predictors and the image that they are asked about; one call at a time."""

    def __init__(self, bundle: Predictor, pytorch: Predictor) -> None:
        self._bundle, self._pytorch = bundle, pytorch
        self._shown: Shown | None = None

    def set_image(self, pixels: ImageArray) -> dict[str, Any]:
        """Run both encoders.

        Returns:
            The image's size, and the seconds that each encoder took.
        """
        start = time.perf_counter()
        bundle = self._bundle.embed(pixels)
        middle = time.perf_counter()
        pytorch = self._pytorch.embed(pixels)
        self._shown = Shown(pixels, bundle, pytorch)
        height, width = prompts.height_and_width(pixels)
        seconds = {"bundle": middle - start, "pytorch": time.perf_counter() - middle}
        return {"width": width, "height": height, "seconds": seconds}

    def image_png(self) -> bytes:
        """The current image, at most `SHOWN` pixels wide or high.

        Raises:
            UsageError: there is none yet.
        """
        image = Image.fromarray(self._current().pixels)
        image.thumbnail((SHOWN, SHOWN))
        return _png(image)

    def segment(self, prompt: Prompt) -> dict[str, Any]:
        """Run both decoders.

        Returns:
            IoU of the two masks, and for `bundle` and `pytorch` the mask as the data URL of a PNG
            (opaque where it is), the predicted IoU and the milliseconds of the decoder.

        Raises:
            UsageError: there is no image yet, or the prompt has no answer.
        """
        shown = self._current()
        masks, answers = [], {}
        for name, predictor, image in (
            ("bundle", self._bundle, shown.bundle),
            ("pytorch", self._pytorch, shown.pytorch),
        ):
            start = time.perf_counter()
            answer = predictor.predict(prompt, image)
            ms = 1000 * (time.perf_counter() - start)
            masks.append(answer.mask)
            mask = _mask_url(answer.mask)
            answers[name] = {"mask": mask, "score": answer.predicted_iou, "ms": ms}
        return {"iou": mask_iou(*masks), **answers}

    def _current(self) -> Shown:
        if self._shown is None:
            raise UsageError("no image yet: open one, or drop one on the page")
        return self._shown


def read_upload(content: bytes) -> ImageArray:
    """The bytes of an image file, read by the rules of `images`.

    Raises:
        ImageError: they are no image, or a damaged or ambiguous one.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload")
        path.write_bytes(content)
        try:
            return images.load_image(path)
        except ImageError as exc:  # the page's user knows no path
            text = str(exc).replace(f"image {path}", UPLOAD).replace(str(path), UPLOAD)
            raise ImageError(text) from exc


def parse_prompt(value: Any) -> Prompt:  # noqa: ANN401 whatever JSON gives
    """`{"points": [{"x", "y", "label"}], "box": [x0, y0, x1, y1] or null}` -> a prompt.

    Raises:
        UsageError: it is not of that form.
    """
    try:
        points = tuple(
            (float(item["x"]), float(item["y"]), bool(item["label"])) for item in value["points"]
        )
        box = value["box"]
        if box is not None:
            x0, y0, x1, y1 = map(float, box)
            box = (x0, y0, x1, y1)
    except (KeyError, TypeError, ValueError) as exc:
        raise UsageError(f"that is no prompt ({type(exc).__name__}: {exc})") from exc
    return Prompt(points, box)


def _mask_url(mask: NDArray[np.bool_]) -> str:
    alpha = Image.fromarray(mask.astype(np.uint8) * 255)
    alpha.thumbnail((SHOWN, SHOWN), Image.Resampling.NEAREST)
    image = Image.merge("LA", (alpha, alpha))
    return "data:image/png;base64," + base64.b64encode(_png(image)).decode()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
