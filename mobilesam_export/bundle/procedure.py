"""What an app does before and after the two files, and how exactly, as data for the manifest.

The bundle's README says the same in words; `prompts` and `predictor` do it.
"""

from typing import Any

from mobilesam_export.contract import (
    BACKGROUND,
    BOTTOM_RIGHT,
    EMPTY,
    FILL,
    FOREGROUND,
    TOP_LEFT,
    Contract,
)
from mobilesam_export.contract.frame import Frame
from mobilesam_export.target import Tolerance

# Of the encoder's input, on the scale 0..255: a filter of the same kind in another arithmetic
# rounds to a neighbour, an app without antialiasing or with another filter is 4 and more off on
# average (`golden/portrait`).
INPUT_MAX, INPUT_MEAN = 1, 0.5


def limits(
    contract: Contract, tolerance: Tolerance, logits_spread: float
) -> dict[str, dict[str, float]]:
    """The largest errors of each stage against `golden/`, for an app's own test.

    PSNR is 20 log10(P / N) in dB: P is the largest absolute value of PyTorch's embedding, and N
    the root of the mean squared difference from it.

    Args:
        contract: of the files.
        tolerance: what the files were held to.
        logits_spread: of the golden answers, see `cases.logits_spread`.

    Returns:
        "preprocessing": `max` and `mean` absolute difference of the encoder's input, 0..255.
        "encoder": `psnr_db` at least. "decoder", on PyTorch's embedding: `logits_max_abs` and
        `iou_predictions_max_abs` at most, `iou` of the final mask at least. "mask", from the image
        on: `iou` at least.
    """
    unit = 255 if contract.fused else 1  # of its input, 0..1
    encoder = {"encoder": {"psnr_db": tolerance.embedding_psnr_db}}
    return {
        "preprocessing": {"max": INPUT_MAX / unit, "mean": INPUT_MEAN / unit},
        **({} if contract.fused else encoder),
        contract.answering.name: {
            "logits_max_abs": tolerance.logits_error * logits_spread,
            "iou_predictions_max_abs": tolerance.iou_max_abs_error,
            "iou": tolerance.mask_iou,
        },
        "mask": {"iou": tolerance.mask_iou},
    }


def procedure(contract: Contract) -> dict[str, Any]:
    """`preprocess`, `postprocess`, `which_mask` and `coordinates` of the manifest's contract."""
    return {
        "preprocess": _preprocess(contract),
        "postprocess": _postprocess(contract),
        "which_mask": _which_mask(contract),
        "coordinates": _coordinates(contract),
    }


def _preprocess(contract: Contract) -> dict[str, Any]:
    """Steps from an image file to the encoder's input, in this order."""
    size = contract.size
    start = {"exif_orientation": "apply", "color": "RGB"}
    if contract.fused:
        resize = {"stretch": list(size.shape), "filter": "bicubic", "antialias": True}
        range_ = [0, 1]
        return {**start, "range": range_, "resize": resize, "pad": None, "normalize": "in the file"}
    padded = contract.form.image_input != "sam"
    pad = {"to": list(size.shape), "image": "top-left", "value": list(FILL)}
    return {
        **start,
        "range": [0, 255],
        "resize": {
            **_resized_to(size),
            "filter": "bilinear",
            "antialias": True,
            "rounding": "half-up",
            "least": 1,
        },
        "pad": pad if padded else None,
        "normalize": "in the encoder",
    }


def _resized_to(size: Frame) -> dict[str, Any]:
    """The longest side of a square, and of a rectangle the [height, width] that it has to fit."""
    if size.is_square:
        return {"longest_side": size.side}
    return {"fit": list(size.shape)}


def _postprocess(contract: Contract) -> dict[str, Any]:
    """Steps from the decoder's logits to a mask of the image's size, in this order."""
    threshold = {"step": "threshold", "foreground": "above", "value": 0}
    if contract.dynamic:
        return {"tensor": "masks", "steps": [threshold]}
    to = list(contract.size.shape)
    resize = {"step": "resize", "filter": "bilinear", "antialias": False, "pixel_centers": 0.5}
    if contract.fused:
        half = {**threshold, "foreground": "from", "value": 0.5}
        steps = [{"step": "sigmoid"}, {**resize, "to": "image"}, half]
        return {"tensor": "pred_masks", "steps": steps}
    return {
        "tensor": "low_res_masks",
        "steps": [
            {**resize, "to": to},
            {"step": "crop", "to": "resized image", "corner": "top-left"},
            {**resize, "to": "image"},
            threshold,
        ],
    }


def _which_mask(contract: Contract) -> dict[str, Any]:
    """Which entry of the postprocessed tensor answers a prompt."""
    if contract.dynamic:
        return {"chosen_by": "decoder"}
    if contract.fused:
        return {"chosen_by": "app", "every_prompt": {"largest": "iou_scores"}}
    return {
        "chosen_by": "app",
        "one_click_without_box": {"among": [1, 2, 3], "largest": "iou_predictions"},
        "otherwise": {"mask": 0},
    }


def _coordinates(contract: Contract) -> dict[str, Any]:
    """How a point of the upright image is passed to the decoder."""
    inside = "input's" if contract.fused else "resized"
    return {
        "order": ["x", "y"],
        "origin": "top-left",
        "scale": [f"{inside} width / width", f"{inside} height / height"],
        "labels": {
            "foreground": FOREGROUND,
            "background": BACKGROUND,
            "box_top_left": TOP_LEFT,
            "box_bottom_right": BOTTOM_RIGHT,
            "empty": EMPTY,
        },
        "empty_slots": "one, without a box" if contract.dynamic else "neutral",
    }
