"""The attention of Q prompt sets, whose image-sized operands are never cut into heads.

Where a head looks at the image, its token-sized operand is moved to the image's side of the
projection instead, (t Wq) (x Wk)' = (t Wq Wk') x', with the channels of other heads set to 0: T
tokens of each head are the rows (1, Q, heads T, C) of one product with the image itself.

Shapes as in `decoder_sets`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.graphs.decoder import HEADS, averages
from mobilesam_export.model import mask_decoder


def transposed_linear(layer: nn.Linear) -> nn.Linear:
    """Products with a layer's (out, in) weight from the other side: (..., out) -> (..., in)."""
    return folding.linear(folding.weight(layer).T)


def eight_times(x: Tensor, axis: int) -> Tensor:
    """A copy for each head behind each other: XNNPACK joins up to five tensors at once."""
    for _ in range(int(math.log2(HEADS))):
        x = torch.cat([x, x], dim=axis)
    return x


class HeadRows(nn.Module):
    """(1, Q, T, D) -> (1, Q, heads T, D): a copy for each head with only its channels, and back."""

    own: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        own = torch.eye(HEADS).repeat_interleave(width // HEADS, dim=1)  # (heads, D)
        self.register_buffer("own", own.repeat_interleave(tokens, dim=0)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        return eight_times(x, 2) * self.own

    def joined(self, x: Tensor) -> Tensor:
        """(1, Q, heads T, D) -> (1, Q, T, D): of each head's rows the channels that are its own."""
        sets = x.shape[1]
        parts = (x * self.own).reshape(1, sets, HEADS, self.tokens * self.width)
        return parts.sum(2, keepdim=True).reshape(1, sets, self.tokens, self.width)


class SelfAttention(nn.Module):
    """Attention among the tokens of each set, (1, Q, T, C)."""

    def __init__(self, attention: mask_decoder.Attention) -> None:
        super().__init__()
        self.q, self.k = attention.q_proj, attention.k_proj
        self.v, self.out = attention.v_proj, attention.out_proj
        self.scale = (attention.q_proj.out_features // HEADS) ** -0.5

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor) -> Tensor:
        _, sets, tokens, width = q.shape

        def heads(x: Tensor) -> Tensor:  # (1, Q heads, T, C / heads)
            x = x.reshape(sets, tokens, HEADS, width // HEADS).permute(0, 2, 1, 3)
            return x.reshape(1, sets * HEADS, tokens, width // HEADS)

        logits = heads(self.q(q) * self.scale) @ heads(self.k(k)).permute(0, 1, 3, 2)
        logits = logits.reshape(1, sets, HEADS * tokens, tokens) + key_mask
        weights = logits.softmax(-1).reshape(1, sets * HEADS, tokens, tokens)
        y = (weights @ heads(self.v(v))).reshape(sets, HEADS, tokens, width // HEADS)
        return self.out(y.permute(0, 2, 1, 3).reshape(1, sets, tokens, width))


class Reading(nn.Module):
    """Attention of tokens to the image: (1, Q, T, C) and maps (1, Q, P, C) -> (1, Q, T, C).

    Args:
        attention: of the model.
        tokens: T.
        projected: whether the maps are already keys and values, (1, Q, P, D).
    """

    def __init__(self, attention: mask_decoder.Attention, tokens: int, *, projected: bool) -> None:
        super().__init__()
        self.q, self.out = attention.q_proj, attention.out_proj
        width = attention.q_proj.out_features
        self.scale = (width // HEADS) ** -0.5
        self.terms = 0  # see `averages`
        self.rows = HeadRows(tokens, width)
        # What a key's bias adds is the same for all positions, and softmax does not see it.
        self.k = nn.Identity() if projected else transposed_linear(attention.k_proj)
        self.v = nn.Identity() if projected else attention.v_proj

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        rows = self.k(self.rows(self.q(tokens) * self.scale))
        # The image on the left: on the right, XNNPACK would copy it in another order first.
        logits = (keys @ rows.permute(0, 1, 3, 2)).permute(0, 1, 3, 2)  # (1, Q, heads T, P)
        found = averages(logits.softmax(-1), values, self.terms)
        return self.out(self.rows.joined(self.v(found)))


class Writing(nn.Module):
    """Attention of the image to tokens: maps (1, Q, P, C) and tokens (1, Q, T, C) -> (1, Q, P, C).

    Args:
        attention: of the model.
        tokens: T.
        projected: whether the map is already the queries, (1, Q, P, D).
    """

    def __init__(self, attention: mask_decoder.Attention, tokens: int, *, projected: bool) -> None:
        super().__init__()
        self.k, self.v = attention.k_proj, attention.v_proj
        # The weights of each head add up to 1, and so does its part of the bias to the whole.
        bias = folding.bias(attention.out_proj) / HEADS
        self.out = folding.linear(folding.weight(attention.out_proj), bias)
        width = attention.q_proj.out_features
        self.scale, self.tokens = (width // HEADS) ** -0.5, tokens
        self.rows = HeadRows(tokens, width)
        self.q = self.bias = None
        if not projected:
            self.q = transposed_linear(attention.q_proj)
            self.bias = folding.linear(folding.bias(attention.q_proj)[None])

    def forward(
        self,
        image: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        further: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`further`: (1, Q, P, K) and (1, Q, K, C), whose product is added."""
        _, sets, positions, _ = image.shape
        rows = self.rows(self.k(keys) * self.scale)
        hidden = eight_times(mask, 3)  # (1, Q, 1, heads T)
        if self.q is not None and self.bias is not None:
            hidden = hidden + self.bias(rows).permute(0, 1, 3, 2)
            rows = self.q(rows)
        logits = image @ rows.permute(0, 1, 3, 2) + hidden  # (1, Q, P, heads T)
        side = math.isqrt(positions)  # P and Q P are axes longer than some hardware allows
        weights = logits.reshape(1, sets * side, side * HEADS, self.tokens).softmax(-1)
        weights = weights.reshape(1, sets, positions, HEADS * self.tokens)
        made = self.out(self.rows(self.v(values)))
        if further is not None:  # as one product
            weights = torch.cat([weights, further[0]], dim=3)
            made = torch.cat([made, further[1]], dim=2)
        return weights @ made


class ImageMaps(NamedTuple):
    """An image as a block's attention takes it, each (1, Q, P, C), or (1, Q, P, D) if projected.

    Attributes:
        keys: for the tokens,
        values: for the tokens,
        queries: to the tokens.
        further: see `Writing`.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor
    further: tuple[Tensor, Tensor] | None = None


class Block(nn.Module):
    """`mask_decoder.TwoWayAttentionBlock` but for the image's own projections and last norm."""

    def __init__(
        self, block: mask_decoder.TwoWayAttentionBlock, tokens: int, *, projected: bool
    ) -> None:
        super().__init__()
        self.first = block.first
        self.self_attn = SelfAttention(block.self_attn)
        reading, writing = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        self.to_image = Reading(reading, tokens, projected=projected)
        self.to_tokens = Writing(writing, tokens, projected=projected)
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.mlp = block.mlp

    def forward(
        self,
        tokens: Tensor,
        token_pe: Tensor,
        mask: Tensor,
        image: ImageMaps,
    ) -> tuple[Tensor, Tensor]:
        """Tokens (1, Q, T, C), and what is to be added to the image (1, Q, P, C)."""
        if self.first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens, mask))
        else:
            q = tokens + token_pe
            tokens = self.norm1(tokens + self.self_attn(q, q, tokens, mask))
        tokens = self.norm2(tokens + self.to_image(tokens + token_pe, image.keys, image.values))
        tokens = self.norm3(tokens + self.mlp(tokens))
        keys = tokens + token_pe
        return tokens, self.to_tokens(image.queries, keys, tokens, mask, image.further)
