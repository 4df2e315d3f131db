"""What pixels and devices need before an encoder runs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD


def normalized(pixels: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, S, S) float32 with SAM's mean and deviation."""
    mean, std = (torch.tensor(v, device=pixels.device) for v in (PIXEL_MEAN, PIXEL_STD))
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def autocast(device: torch.device, *, exact: bool = False) -> AbstractContextManager[object]:
    """bfloat16 for matrix products on GPUs; float32 elsewhere, where it would be slower.

    Args:
        device: of the products.
        exact: float32 everywhere: bfloat16 rounds as coarsely as what is to be recovered.
    """
    if device.type != "cuda":
        return nullcontext()
    if exact:
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return torch.autocast("cuda", torch.bfloat16)
