"""The image as a decoder attends to it: positions of the input, then a rectangle's padding.

SAM's decoder looks at padding, too, and without it finds other masks. A rectangle's decoder has it
as a constant: what the encoder makes of a square of nothing else. The order of positions means
nothing to attention, as long as their encoding goes with them.
"""

import torch
from torch import Tensor, nn

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


class WithPadding(nn.Module):
    """The embedding as a list of positions: (1, C, H/16, W/16) -> (..., P, C).

    Args:
        sam: the model.
        axes: of the result, 3 or 4; all but the last two are 1.
        prompt: (1, C), added to the padding: what a prompt without a mask adds to the image.
    """

    padding: Tensor | None

    def __init__(self, sam: Sam, axes: int, prompt: Tensor | None = None) -> None:
        super().__init__()
        self.own = sam.size.positions
        self.axes = axes
        padding = None
        if not sam.size.is_square:
            padding = ordered(sam.padding, sam.size)[:, self.own :]
            padding = padding if prompt is None else padding + prompt
            padding = padding.reshape(*(1,) * (axes - 2), *padding.shape[1:]).contiguous()
        self.register_buffer("padding", padding)

    def forward(self, image: Tensor) -> Tensor:
        if self.axes == 3:
            image = image.reshape(1, -1, self.own).permute(0, 2, 1)
        else:
            image = image.reshape(1, 1, -1, self.own).permute(0, 1, 3, 2)
        if self.padding is None:
            return image
        return torch.cat([image, self.padding], dim=self.axes - 2)
