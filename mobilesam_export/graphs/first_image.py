"""The first image that decoders of prompt sets attend to: the embedding with a dense prompt.

What is the same for all sets is computed once; what a set's mask adds is a product of 17 channels.
Shapes as in `decoder_sets`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH
from mobilesam_export.graphs import folding
from mobilesam_export.graphs.norms import CenteredNorm
from mobilesam_export.graphs.positions import encoding
from mobilesam_export.model import Sam, mask_decoder

MASK_WIDTH = 16  # channels of a mask prompt before the last layer, which makes it C wide


class MaskPrompts(nn.Module):
    """Masks (1, G H/4, W/4) of G sets, and whether each is given (1, G, 1, 1) -> (1, G, P, 17).

    These are the dense prompts before their last layer. The seventeenth channel is 1 where a mask
    is given, and all are 0 where none is.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        encoder, self.map_size = sam.prompt_encoder, sam.size.over(PATCH)
        self.padding = encoding(sam).shape[1] - sam.size.positions
        first, second = encoder.mask_downscaling[0], encoder.mask_downscaling[3]
        self.norm1 = CenteredNorm(encoder.mask_downscaling[1])
        self.norm2 = CenteredNorm(encoder.mask_downscaling[4])
        self.first = folding.centered(
            folding.weight(first).flatten(1), folding.bias(first), MASK_WIDTH // 4
        )
        # (16, 4, 2, 2) -> (16, [2, 2, 4]): of a position its four pixels, of each four channels.
        self.second = folding.centered(
            folding.weight(second).permute(0, 2, 3, 1).flatten(1), folding.bias(second), MASK_WIDTH
        )

    def forward(self, masks: Tensor, given: Tensor) -> Tensor:
        sets, (rows, columns) = given.shape[1], self.map_size
        # Rows y a c and columns x b d of a position's 2 x 2 pixels of 2 x 2 -> (y x, a b c d).
        x = masks.reshape(sets * rows * 2, 2, columns * 2, 2).permute(0, 2, 1, 3)
        x = x.reshape(sets * rows, 2, columns, 8).permute(0, 2, 1, 3)
        x = self.first(x.reshape(1, sets * rows, columns * 4, 4))
        x = F.gelu(self.norm1(x)).reshape(1, sets, rows * columns, MASK_WIDTH)
        x = F.gelu(self.norm2(self.second(x)))
        ones = torch.ones(1, sets, rows * columns, 1, dtype=x.dtype)
        x = torch.cat([x, ones], dim=3) * given
        return F.pad(x, (0, 0, 0, self.padding)) if self.padding else x


class SharedMap(nn.Module):
    """A linear layer on the first image, of sets without a mask: (1, 1, P, C) -> (1, 1, P, D).

    `pe`, (P, C), is added to the image first.
    """

    constant: Tensor

    def __init__(self, sam: Sam, layer: nn.Linear, pe: Tensor | None) -> None:
        super().__init__()
        matrix, constant = folding.weight(layer), no_mask(sam)
        constant = constant if pe is None else constant + pe.double()
        self.shared = folding.linear(matrix)
        self.register_buffer(
            "constant", (constant @ matrix.T + folding.bias(layer)).float()[None, None]
        )

    def of_all(self, embedding: Tensor) -> Tensor:
        """What is the same for all sets."""
        return self.shared(embedding) + self.constant


class FirstMap(SharedMap):
    """The same layer on the embedding with the dense prompt of a set."""

    def __init__(self, sam: Sam, layer: nn.Linear, pe: Tensor | None) -> None:
        super().__init__(sam, layer, pe)
        self.added = folding.linear(folding.weight(layer) @ dense_weight(sam))

    def forward(self, shared: Tensor, dense: Tensor) -> Tensor:
        """What `of_all` made and the dense prompts (1, G, P, 17) -> (1, G, P, D)."""
        return shared + self.added(dense)


def blocks(sam: Sam) -> tuple[mask_decoder.TwoWayAttentionBlock, ...]:
    """Both blocks of the model's transformer."""
    layers = sam.mask_decoder.transformer.layers
    return tuple(x for x in layers if isinstance(x, mask_decoder.TwoWayAttentionBlock))


def first_layers(sam: Sam) -> tuple[tuple[nn.Linear, Tensor | None], ...]:
    """Layers of keys, values and queries of the first image, and what is added to it first."""
    first, pe = blocks(sam)[0], encoding(sam)[0]
    reading, writing = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    return (reading.k_proj, pe), (reading.v_proj, None), (writing.q_proj, pe)


def no_mask(sam: Sam) -> Tensor:
    """(1, C): the dense prompt of sets without a mask."""
    return folding.weight(sam.prompt_encoder.no_mask_embed)


def dense_weight(sam: Sam) -> Tensor:
    """(C, 17): what `MaskPrompts` gives -> the dense prompt, but for that of no mask."""
    last = sam.prompt_encoder.mask_downscaling[6]
    return torch.cat(
        [folding.weight(last).flatten(1), (folding.bias(last) - no_mask(sam)[0])[:, None]], dim=1
    )
