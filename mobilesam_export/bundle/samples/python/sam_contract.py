"""Images and prompts to the inputs of the two files, and their outputs to masks.

The input is H x W, of most bundles a square. Files with SAM's own interface (target `onnx-sam`)
take the image without padding and any number of points, and choose and upscale the mask themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sam_errors import PromptError, TooManyPointsError

FOREGROUND, BACKGROUND, TOP_LEFT, BOTTOM_RIGHT, EMPTY = 1, 0, 2, 3, -1
FILL = (124, 116, 104)  # of the padding: the bytes nearest to the model's mean

Floats = NDArray[np.float32]
Points = Sequence[tuple[float, float, int]]


@dataclass(frozen=True)
class Result:
    """The answer to one prompt.

    Attributes:
        mask: (height, width) bool, of the image's size.
        score: the model's own estimate of the mask's IoU, about 0 to 1.
        logits: (1, 1, H/4, W/4) float32; pass it as `previous_mask` to refine this mask.
    """

    mask: NDArray[np.bool_]
    score: float
    logits: Floats


class Contract:
    """The contract in a bundle's manifest.

    Attributes:
        width: W.
        height: H.
        slots: points that the decoder takes, a box counting as two; None for any number.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        """Read what is needed here.

        Args:
            manifest: of the bundle.
        """
        contract = manifest["contract"]
        side: int = contract["image_size"]
        rectangle = contract.get("rectangle", {"width": side, "height": side})
        self.width: int = rectangle["width"]
        self.height: int = rectangle["height"]
        self.slots: int | None = contract["points"]
        (image,) = contract["encoder"]["inputs"]
        self._image, self._dtype = image["name"], np.dtype(image["dtype"])

    def encoder_inputs(self, image: Image.Image) -> dict[str, NDArray[Any]]:
        """Resized (antialiased bilinear) to the largest size that fits, top left in the input.

        Args:
            image: RGB, upright.
        """
        width, height = self._resized(image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        if self.slots is not None:
            padded = np.full((1, self.height, self.width, 3), FILL, np.uint8)
            padded[0, :height, :width] = pixels
            pixels = padded
        return {self._image: pixels.astype(self._dtype)}

    def decoder_inputs(
        self,
        points: Points,
        box: Sequence[float] | None,
        previous_mask: Floats | None,
        embeddings: Floats,
        size: tuple[int, int],
    ) -> dict[str, NDArray[Any]]:
        """A prompt on an image of this (width, height).

        Raises:
            PromptError: the prompt has no answer.
        """
        filled = self._checked(points, box, size)
        # SAM's own decoder is given one empty point with a prompt without a box.
        empty = int(box is None) if self.slots is None else self.slots - len(filled)
        columns, rows = self._resized(size)
        scale = (columns / size[0], rows / size[1], 1)
        slots = np.array([*filled, *[(0, 0, EMPTY)] * empty]).reshape(-1, 3) * scale
        inputs: dict[str, NDArray[Any]] = {
            "image_embeddings": embeddings,
            "point_coords": np.ascontiguousarray(slots[None, :, :2], np.float32),
            "point_labels": np.ascontiguousarray(slots[None, :, 2], np.float32),
            "mask_input": self._mask_input(previous_mask),
            "has_mask_input": np.array([previous_mask is not None], np.float32),
        }
        if self.slots is None:
            inputs["orig_im_size"] = np.array(size[::-1], np.float32)
        return inputs

    def result(
        self,
        outputs: Mapping[str, NDArray[Any]],
        points: Points,
        box: Sequence[float] | None,
        size: tuple[int, int],
    ) -> Result:
        """Choose the mask and bring it to the image's (width, height)."""
        scores, index = outputs["iou_predictions"][0], 0
        # One click is ambiguous (a button, a shirt, a person?): the best of three. Else mask 0.
        if self.slots is not None and len(points) == 1 and box is None:
            index = 1 + int(scores[1:].argmax())
        logits = np.array(outputs["low_res_masks"][:, index : index + 1])
        full = outputs["masks"][0, 0] if self.slots is None else self._upscale(logits[0, 0], size)
        return Result(np.asarray(full > 0), float(scores[index]), logits)

    def _checked(
        self, points: Points, box: Sequence[float] | None, size: tuple[int, int]
    ) -> list[tuple[float, float, int]]:
        """x, y and label of each slot that the prompt takes."""
        filled = [(float(x), float(y), int(label)) for x, y, label in points]
        if any(label not in (FOREGROUND, BACKGROUND) for _, _, label in filled):
            raise PromptError("a point is (x, y, label) with label 1 (part of it) or 0")
        if box is not None:
            x0, y0, x1, y1 = box
            if not (x0 < x1 and y0 < y1):
                raise PromptError(f"box {tuple(box)} is empty; expected x0 < x1 and y0 < y1")
            filled += [(x0, y0, TOP_LEFT), (x1, y1, BOTTOM_RIGHT)]
        if self.slots is not None and len(filled) > self.slots:
            raise TooManyPointsError(
                f"{len(filled)} points, a box counting as two; this decoder takes {self.slots}"
            )
        width, height = size
        for x, y, _ in filled:
            if not (0 <= x <= width and 0 <= y <= height):
                raise PromptError(f"{x:g},{y:g} is outside the image, which is {width} x {height}")
        return filled

    def _mask_input(self, previous_mask: Floats | None) -> Floats:
        shape = (1, 1, self.height // 4, self.width // 4)
        if previous_mask is None:
            return np.zeros(shape, np.float32)
        if previous_mask.shape != shape:
            raise PromptError(f"previous_mask is {previous_mask.shape}; expected {shape}")
        return previous_mask

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after resizing, rounded half up."""
        factor = min(self.width / size[0], self.height / size[1])
        width, height = (max(1, int(length * factor + 0.5)) for length in size)
        return width, height

    def _upscale(self, logits: Floats, size: tuple[int, int]) -> Floats:
        """(H/4, W/4) logits to the image's size, by way of H x W without the padding."""
        width, height = self._resized(size)
        padded = _bilinear(logits, (self.height, self.width))
        return _bilinear(padded[:height, :width], (size[1], size[0]))


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
