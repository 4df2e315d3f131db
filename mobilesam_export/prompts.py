"""Images and prompts to graph inputs, and mask logits to an image's size, as SAM does it.

Coordinates are x, y in pixels of the image, from its top-left corner. The input is
H x W, a square but for rectangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilesam_export.contract import (
    BACKGROUND,
    BOTTOM_RIGHT,
    EMPTY,
    FILL,
    FOREGROUND,
    TOP_LEFT,
    Array,
    Contract,
)
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import UsageError
from mobilesam_export.images import ImageArray as ImageArray
from mobilesam_export.images import load_image as load_image

MUCH = 0.95  # of a rectangle; an image of its shape fills all but a row or two
BOX_OVERSHOOT = 1  # pixels outside the image: inclusive corners and rounding of other tools
CACHED_ROWS = 32  # of a mask that are resized at a time, so that they stay in a processor's cache


@dataclass(frozen=True)
class Prompt:
    """What the user points at.

    Attributes:
        points: x, y and whether it is foreground, of each click.
        box: x0, y0, x1, y1.
        mask_input: (1, 1, H/4, W/4) float32 logits of an earlier prediction.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask_input: Array | None = None

    @property
    def slots(self) -> int:
        """How many prompt slots this takes."""
        return len(self.points) + (0 if self.box is None else 2)

    @property
    def single_click(self) -> bool:
        """Whether it is ambiguous: one click wants the best of three, anything more one answer."""
        return len(self.points) == 1 and self.box is None


def height_and_width(image: ImageArray) -> tuple[int, int]:
    """(height, width)."""
    height, width, _ = image.shape
    return height, width


def resized_size(height: int, width: int, room: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image as large as there is room, rounded half up, at least 1.

    `room`: (height, width), of a square input both S.
    """
    scale = min(room[0] / height, room[1] / width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def placed_size(size: tuple[int, int], contract: Contract) -> tuple[int, int]:
    """(height, width) that an image of `size` has in the input: all of it where it is stretched."""
    return contract.size.shape if contract.fused else resized_size(*size, contract.size.shape)


def note_on_shape(image: ImageArray, contract: Contract) -> str:
    """What must be known where an image leaves much of a rectangle empty; "" where it does not."""
    size = contract.size
    height, width = height_and_width(image)
    rows, columns = resized_size(height, width, size.shape)
    fits = rows * columns >= MUCH * size.height * size.width
    if contract.fused and not fits:
        return (
            f"the image is {width} x {height}, and what this file is for stretches it to "
            f"{size.width} x {size.height}: export with an --image-size of its shape"
        )
    if size.is_square or fits:
        return ""
    return (
        f"the image is {width} x {height} and this bundle is for the shape of {size.width} x "
        f"{size.height}: the model sees it at {columns} x {rows}, so small things may be lost"
    )


def encoder_inputs(image: ImageArray, contract: Contract) -> dict[str, Array]:
    """The encoder's input for an image: resized by Pillow's antialiased bilinear filter.

    Apple's ImageSegmenter draws it at the input's size, with the filter that is nearest to bicubic.
    """
    size = contract.size
    if contract.fused:
        drawn = Image.fromarray(image).resize(size.shape[::-1], Image.Resampling.BICUBIC)
        unit = np.asarray(drawn, np.float32).transpose(2, 0, 1)[None] / 255
        return {"image": np.ascontiguousarray(unit)}
    height, width = resized_size(*height_and_width(image), size.shape)
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    resized = np.asarray(scaled)
    if contract.form.image_input == "sam":
        return {"input_image": resized.astype(np.float32)}
    pixels = np.empty((1, size.height, size.width, 3), np.uint8)
    pixels[:] = FILL
    pixels[0, :height, :width] = resized
    dtype = contract.encoder.inputs[0].dtype
    return {"image": pixels.astype(dtype)}


def decoder_inputs(
    prompt: Prompt, embeddings: Array, size: tuple[int, int], contract: Contract
) -> dict[str, Array]:
    """The decoder's inputs for a prompt on an image of this (height, width).

    Raises:
        UsageError: the prompt is empty, outside the image, or takes too many slots.
    """
    check_prompt(prompt, size, contract)
    prompt = clipped(prompt, size)
    slots = _labeled_points(prompt)
    height, width = placed_size(size, contract)
    scale = np.array([width / size[1], height / size[0], 1])
    filled = np.array(slots, np.float64).reshape(-1, 3) * scale
    # SAM's own decoder is told to pad a prompt without a box; ours has empty slots.
    missing = int(prompt.box is None) if contract.dynamic else contract.points - len(filled)
    filled = np.concatenate([filled, np.tile([0, 0, EMPTY], (missing, 1))]).astype(np.float32)
    inputs: dict[str, Array] = {
        "image_embeddings": embeddings,
        "point_coords": np.ascontiguousarray(filled[None, :, :2]),
        "point_labels": np.ascontiguousarray(filled[None, :, 2]),
    }
    if contract.fused:
        return inputs
    mask, blank = prompt.mask_input, np.zeros((1, 1, *contract.size.over(4)), np.float32)
    inputs["mask_input"] = blank if mask is None else mask
    inputs["has_mask_input"] = np.array([mask is not None], np.float32)
    if contract.dynamic:
        inputs["orig_im_size"] = np.array(size, np.float32)
    return inputs


def batch_inputs(
    asked: Sequence[Prompt], embeddings: Array, size: tuple[int, int], contract: Contract
) -> dict[str, Array]:
    """The inputs of `decoder_batch` for up to `contract.sets` prompts on one image.

    Sets without a prompt are empty; errors as of `decoder_inputs`.
    """
    filled = [decoder_inputs(prompt, embeddings, size, contract) for prompt in asked]
    inputs: dict[str, Array] = {"image_embeddings": embeddings}
    for tensor in contract.decoder_batch.inputs[1:]:
        empty = EMPTY if tensor.name == "point_labels" else 0.0
        inputs[tensor.name] = np.full(tensor.shape, empty, np.float32)  # type: ignore[arg-type]
        for place, single in enumerate(filled):
            inputs[tensor.name][place] = single[tensor.name][0]
    return inputs


def _labeled_points(prompt: Prompt) -> list[tuple[float, float, float]]:
    slots = [(x, y, FOREGROUND if inside else BACKGROUND) for x, y, inside in prompt.points]
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        slots += [(x0, y0, TOP_LEFT), (x1, y1, BOTTOM_RIGHT)]
    return slots


def clipped(prompt: Prompt, size: tuple[int, int]) -> Prompt:
    """The prompt with a box that is up to `BOX_OVERSHOOT` outside the image clipped to it.

    Args:
        prompt: a box further outside is left as it is, for `check_prompt` to refuse.
        size: (height, width) of the image.
    """
    if prompt.box is None:
        return prompt
    (height, width), (x0, y0, x1, y1) = size, prompt.box
    return replace(
        prompt, box=(_clip(x0, width), _clip(y0, height), _clip(x1, width), _clip(y1, height))
    )


def _clip(value: float, end: int) -> float:
    near = -BOX_OVERSHOOT <= value <= end + BOX_OVERSHOOT
    return min(max(value, 0.0), float(end)) if near else value


def check_prompt(prompt: Prompt, size: tuple[int, int], contract: Contract) -> None:
    """Refuse a prompt that has no answer; see `decoder_inputs`."""
    height, width = size
    prompt = clipped(prompt, size)
    if not prompt.slots and prompt.mask_input is None:
        raise UsageError("nothing to segment: give at least one --point X,Y or a --box X0,Y0,X1,Y1")
    corners = [] if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
    for x, y in [(x, y) for x, y, _ in prompt.points] + corners:
        if not (0 <= x <= width and 0 <= y <= height):
            raise UsageError(f"{x:g},{y:g} is outside the image, which is {width} x {height}")
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        if not (x0 < x1 and y0 < y1):
            raise UsageError(
                f"box {x0:g},{y0:g},{x1:g},{y1:g} is empty; "
                "expected X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1"
            )
    if prompt.mask_input is not None:
        _check_mask_input(prompt.mask_input, contract)
    if not contract.dynamic and prompt.slots > contract.points:
        raise UsageError(
            f"the prompt takes {prompt.slots} slots (a box takes two) and this decoder has "
            f"{contract.points}; export with --points {prompt.slots} or more"
        )


def _check_mask_input(mask: Array, contract: Contract) -> None:
    if contract.fused:
        raise UsageError("this file takes no mask_input; use a bundle with a decoder")
    logits = (1, 1, *contract.size.over(4))
    if mask.shape != logits:
        raise UsageError(f"mask_input is {mask.shape}; expected the logits {logits}")


def final_mask(low_res_mask: Array, size: tuple[int, int], contract: Contract) -> NDArray[np.bool_]:
    """(H/4, W/4) logits -> (height, width) of the image, as the clients of these files do it."""
    if contract.fused:
        return _stretched_mask(low_res_mask, size)
    return np.asarray(upscale(low_res_mask, size, contract.size) > 0)


def _stretched_mask(low_res_mask: Array, size: tuple[int, int]) -> NDArray[np.bool_]:
    """As Apple's SegmentationPostprocessor: the logits' sigmoid is resized and held to 0.5."""
    with np.errstate(over="ignore"):  # of a logit under -88: exactly 0
        share = 1 / (1 + np.exp(-np.asarray(low_res_mask, np.float32)))
    return np.asarray(bilinear(share.astype(np.float32), size) >= np.float32(0.5))


def upscale(low_res_mask: Array, size: tuple[int, int], frame: Frame) -> NDArray[np.float32]:
    """(H/4, W/4) logits -> (height, width) logits, bilinear by way of H x W, padding cropped."""
    height, width = resized_size(*size, frame.shape)
    full = _resized(np.asarray(low_res_mask, np.float32), frame.shape, (height, width))
    return full if (height, width) == size else bilinear(full, size)


def bilinear(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize (height, width) float32 as torch's interpolate does, by default and so in SAM.

    Centers of pixels correspond (align_corners=False), and nothing is smoothed where the result is
    smaller, unlike in Pillow. In numpy, because who only runs files has no torch.
    """
    return _resized(values, size, size)


def _resized(
    values: NDArray[np.float32], size: tuple[int, int], kept: tuple[int, int]
) -> NDArray[np.float32]:
    """Resize to `size`, of which only the top left (height, width) `kept` is computed."""
    first, second, share = _neighbours(values.shape[1], size[1], kept[1])
    columns = values.take(first, axis=1)
    _mix(columns, values.take(second, axis=1), share)
    first, second, share = _neighbours(len(values), size[0], kept[0])
    result = np.empty(kept, np.float32)
    for start in range(0, kept[0], CACHED_ROWS):
        rows = slice(start, start + CACHED_ROWS)
        made = result[rows]
        np.take(columns, first[rows], axis=0, out=made, mode="clip")  # other modes make a copy
        _mix(made, columns[second[rows]], share[rows, None])
    return result


def _mix(
    values: NDArray[np.float32], others: NDArray[np.float32], share: NDArray[np.float32]
) -> None:
    """Bring `values` so much nearer to `others`, in place; the others are lost."""
    others -= values
    others *= share
    values += others


def _neighbours(
    count: int, wanted: int, kept: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Of the first `kept` of `wanted` places: both nearest of `count` values, the second's share.

    In float32 like torch, which otherwise decides otherwise on logits near 0.
    """
    scale, half = np.float32(count / wanted), np.float32(0.5)
    place = np.clip((np.arange(kept, dtype=np.float32) + half) * scale - half, 0, count - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, count - 1), place - first.astype(np.float32)
