"""The image as a decoder attends to it: positions of the input, then a rectangle's padding.

SAM's decoder looks at padding, too, and without it finds other masks. A rectangle's decoder has it
as a constant: what the encoder makes of a square of nothing else. The order of positions means
nothing to attention, as long as their encoding goes with them.
"""

import torch
from torch import Tensor

from mobilesam_export.contract.frame import PATCH, Frame
from mobilesam_export.model import Sam


def ordered(square: Tensor, size: Frame) -> Tensor:
    """(1, C, S/16, S/16) -> (1, P, C): the input's positions by row, then those beside or below."""
    rows, columns = size.over(PATCH)
    parts = (square[:, :, :rows, :columns], square[:, :, rows:], square[:, :, :rows, columns:])
    return torch.cat([part.flatten(2).transpose(1, 2) for part in parts], dim=1)


def encoding(sam: Sam) -> Tensor:
    """(1, P, C): the positional encoding."""
    return ordered(sam.prompt_encoder.image_pe().detach(), sam.size)


def padding(sam: Sam, axes: int) -> Tensor | None:
    """Embedding of what follows a rectangle's positions; None for a square.

    Args:
        sam: the model.
        axes: of the result (1, positions, C), or with more that are 1 before them.
    """
    if sam.size.is_square:
        return None
    rest = ordered(sam.padding, sam.size)[:, sam.size.positions :]
    return rest.reshape(*(1,) * (axes - 3), *rest.shape).contiguous()
