"""Images -> the tensors that Core ML passes to a program for an image input.

Core ML only reorders the pixels of an image. Scale and bias of coremltools' `ImageType` are
operations at the start of the program itself.
"""

import numpy as np
import torch
from torch import Tensor

from mobilesam_export.contract import Array
from mobilesam_export.errors import BackendError

# Order of the channels in a program's input, as indices into RGB.
_ORDERS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "GRAYSCALE": (0,)}


def image_tensor(array: Array, color: str, label: str) -> Tensor:
    """The tensor that a program sees for an image.

    Args:
        array: (1, H, W, 3) uint8 RGB; (1, H, W, 1) uint8 where `color` is "GRAYSCALE".
        color: "RGB", "BGR" or "GRAYSCALE".
        label: what to call the input in errors.

    Returns:
        (1, 3, H, W) or (1, 1, H, W) float32, 0..255.

    Raises:
        BackendError: it is no such array, or a color space without a rule here.
    """
    if color not in _ORDERS:
        raise BackendError(
            f"{label} is a {color} image; the MIL interpreter knows {', '.join(_ORDERS)}"
        )
    order = _ORDERS[color]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != len(order):
        raise BackendError(
            f"{label} is a {color} image: expected (1, H, W, {len(order)}) uint8, "
            f"found {array.shape} {array.dtype}"
        )
    planes = array[..., list(order)].transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(planes, np.float32))
