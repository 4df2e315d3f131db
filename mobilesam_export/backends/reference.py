"""PyTorch in float32: what every other backend is compared with.

Takes the inputs of a bundle's contract and gives them to the plain model by their meaning,
through none of the code that exports.
"""

from typing import Any

import numpy as np
import torch

from mobilesam_export import prompts
from mobilesam_export.contract import BACKGROUND, FOREGROUND, NOT_ASKED, Array, Contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, Sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session


def load(sam: Sam, contract: Contract) -> Predictor:
    """The model with the inputs and outputs that the contract's files have."""
    runtime = f"PyTorch {torch.__version__}, CPU, float32"

    def encode(inputs: dict[str, Array]) -> dict[str, Array]:
        (pixels,) = inputs.values()
        if contract.fused:
            pixels = pixels[0].transpose(1, 2, 0) * np.float32(255)
        return {"image_embeddings": sam.encode(normalize(pixels, sam.size)).numpy()}

    def decode(inputs: dict[str, Array]) -> dict[str, Array]:
        masks, iou = sam.decode(**_prompt(inputs))
        outputs: dict[str, Array] = {"low_res_masks": masks.numpy(), "iou_predictions": iou.numpy()}
        if contract.fused:
            outputs["iou_predictions"] = _of_asked_masks(inputs["point_labels"], iou.numpy())
        return _sam_outputs(inputs, outputs, contract) if contract.dynamic else outputs

    return Predictor(Session(encode, runtime), Session(decode, runtime), contract)


def normalize(pixels: Array, size: Frame) -> torch.Tensor:
    """RGB 0..255 up to the size (H, W, 3) -> (1, 3, H, W), normalised and then zero-padded."""
    image = np.zeros((*size.shape, 3), np.float32)
    rgb: Array = pixels.reshape(pixels.shape[-3:]).astype(np.float32)
    mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
    image[: rgb.shape[0], : rgb.shape[1]] = (rgb - mean) / std
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def _prompt(inputs: dict[str, Array]) -> dict[str, Any]:
    """Slots or SAM's padded points -> what `Sam.decode` takes, which pads by itself."""
    coords = torch.from_numpy(np.asarray(inputs["point_coords"]))[0]
    labels = torch.from_numpy(np.asarray(inputs["point_labels"]))[0]
    clicks = (labels == FOREGROUND) | (labels == BACKGROUND)
    corners = labels > FOREGROUND
    masked = "mask_input" in inputs and bool(np.ravel(inputs["has_mask_input"])[0])
    return {
        "image_embeddings": torch.from_numpy(np.asarray(inputs["image_embeddings"])),
        "point_coords": coords[clicks][None] if clicks.any() else None,
        "point_labels": labels[clicks][None] if clicks.any() else None,
        "box": coords[corners].reshape(1, 4) if corners.any() else None,
        "mask_input": torch.from_numpy(np.asarray(inputs["mask_input"])) if masked else None,
    }


def _of_asked_masks(labels: Array, iou: Array) -> Array:
    """(1, 4) predicted IoU, with `NOT_ASKED` for the masks that SAM does not show for a prompt."""
    used = sorted(labels[labels >= 0].tolist())
    asked = slice(1, 4) if used in ([BACKGROUND], [FOREGROUND]) else slice(0, 1)
    result: Array = np.full_like(iou, NOT_ASKED)
    result[:, asked] = iou[:, asked]
    return result


def _sam_outputs(
    inputs: dict[str, Array], outputs: dict[str, Array], contract: Contract
) -> dict[str, Array]:
    """Choose and upscale as SAM's ONNX decoder does, by the number of points it was given."""
    iou = outputs["iou_predictions"]
    few = inputs["point_labels"].shape[1] <= 2
    index = 1 + int(np.argmax(iou[0, 1:])) if few else 0
    low_res = outputs["low_res_masks"][:, index : index + 1]
    height, width = (int(side) for side in inputs["orig_im_size"])
    full = prompts.upscale(low_res[0, 0], (height, width), contract.size)
    return {
        "masks": full[None, None],
        "iou_predictions": iou[:, index : index + 1],
        "low_res_masks": low_res,
    }
