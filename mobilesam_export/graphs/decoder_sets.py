"""The decoder for Q prompts about one image at once, with four axes at most and no batch.

What is the same for all sets is computed once; see `first_image`. Sets stand in the second axis,
so that a delegate finds no batch: tokens are (1, Q, T, C), the image is (1, Q, P, C).

Convolutions of kernel 2 and stride 2 meet no pixel twice: they are products on maps that keep the
pixels of one position beside each other, and only the finished logits are put in order.

Shapes as in `decoder`; Q sets, G of them in a group, D = C / 2 channels between both sides.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH, Frame
from mobilesam_export.graphs import folding
from mobilesam_export.graphs.attention_sets import Block, ImageMaps, Reading
from mobilesam_export.graphs.decoder import MASKED, PointTokens
from mobilesam_export.graphs.first_image import (
    FirstMap,
    MaskPrompts,
    blocks,
    dense_weight,
    first_layers,
    no_mask,
)
from mobilesam_export.graphs.norms import CenteredNorm
from mobilesam_export.graphs.positions import encoding, padding
from mobilesam_export.model import Sam, mask_decoder

OUTPUTS = 1 + mask_decoder.MASK_TOKENS  # tokens that are read at the end: IoU and masks
LONGEST_AXIS = 16_384  # of the Apple Neural Engine
# Of all sets that are answered together: large maps exist for so many at a time. They stay in a
# processor's cache then (at 1024 pixels TFLite answers groups of two in less time than groups of
# one or four), and a call with many sets takes no more memory than one with few.
GROUP_POSITIONS = 2 * 64**2
MOST_GROUPS = 16  # each takes as many nodes, and converters seconds for them


def row(tokens: Tensor, index: int) -> Tensor:
    """(1, Q, T, C) -> (1, Q, C), one token of each set."""
    return tokens[:, :, index : index + 1].reshape(1, tokens.shape[1], tokens.shape[3])


class Masks(nn.Module):
    """Images (1, G, P, C) and mask tokens (1, G, 4, C) -> masks (G, 4, H/4, W/4)."""

    def __init__(self, decoder: mask_decoder.MaskDecoder, size: Frame) -> None:
        super().__init__()
        self.map_size, self.pixels = size.over(PATCH), 16 * size.positions
        first, norm, _, second, _ = decoder.output_upscaling
        self.norm = CenteredNorm(norm)
        self.first = folding.centered(*_upsampling(first), width=self.norm.normalized_shape[0])
        self.second = folding.linear(*_upsampling(second))
        self.mlps = decoder.output_hypernetworks_mlps
        # So that no axis is longer than hardware allows.
        least = math.ceil(self.pixels / LONGEST_AXIS)
        self.pieces = next(n for n in itertools.count(least) if self.pixels % n == 0)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        sets, (rows, columns) = image.shape[1], self.map_size
        image = image if image.shape[2] == rows * columns else image[:, :, : rows * columns]
        x = self.first(image.reshape(1, sets * rows, columns, image.shape[-1]))
        x = F.gelu(self.norm(x.reshape(1, sets * rows, columns * 4, x.shape[-1] // 4)))
        x = F.gelu(self.second(x))
        pieces = sets * self.pieces
        x = x.reshape(1, pieces, self.pixels // self.pieces, x.shape[-1] // 4)
        kernels = [mlp(row(tokens, i)) for i, mlp in enumerate(self.mlps)]  # (1, G, 32) each
        kernel = torch.cat(kernels * self.pieces, dim=2)
        kernel = kernel.reshape(1, pieces, len(kernels), x.shape[-1])
        x = x @ kernel.permute(0, 1, 3, 2)  # (1, G pieces, 16 P / pieces, 4)
        return self._in_order(x, sets)

    def _in_order(self, x: Tensor, sets: int) -> Tensor:
        """Pixels by position (y x) and place in it (a b c d) -> rows y a c, columns x b d."""
        (rows, columns), masks = self.map_size, x.shape[-1]
        x = x.permute(0, 1, 3, 2)
        if self.pieces > 1:
            x = x.reshape(sets, self.pieces, masks, -1).permute(0, 2, 1, 3)
        x = x.reshape(sets * masks * rows, columns, 2, 8).permute(0, 2, 1, 3)
        x = x.reshape(sets * masks * rows * 2, columns * 2, 2, 2).permute(0, 2, 1, 3)
        return x.reshape(sets, masks, rows * 4, columns * 4)


class SetsTransformer(nn.Module):
    """What decoders of Q sets of N prompt slots share: tokens, attention, and the last layers."""

    output_tokens: Tensor
    not_a_point: Tensor
    image_pe: Tensor

    def __init__(self, sam: Sam, points: int, sets: int) -> None:
        super().__init__()
        decoder, transformer = sam.mask_decoder, sam.mask_decoder.transformer
        self.sets, self.slots = sets, points
        tokens = OUTPUTS + points + 1
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).detach()
        self.register_buffer("output_tokens", outputs.repeat(sets, 1, 1)[None])
        not_a_point = sam.prompt_encoder.not_a_point_embed.weight.detach()
        self.register_buffer("not_a_point", not_a_point.repeat(sets, 1, 1)[None])
        self.register_buffer("image_pe", encoding(sam).contiguous()[None])
        self.points = PointTokens(sam.prompt_encoder)
        first, second = blocks(sam)
        self.first = Block(first, tokens, projected=True)
        self.second = Block(second, tokens, projected=False)
        self.norm_first, self.norm_second = first.norm4, second.norm4
        self.final = Reading(transformer.final_attn_token_to_image, OUTPUTS, projected=False)
        self.norm_final = transformer.norm_final_attn
        self.masks = Masks(decoder, sam.size)
        self.iou_head = decoder.iou_prediction_head

    def attend(
        self, image: Tensor, maps: ImageMaps, token_pe: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The images (1, G, P, C) and output tokens of a group.

        Args:
            image: the first one, but for dense prompts, of all sets.
            maps: of the first images, and the dense prompts as two factors.
            token_pe: first tokens.
            hidden: what hides those of empty slots.
        """
        tokens, added = self.first(token_pe, token_pe, hidden, maps)
        image = self.norm_first(image + added)
        keys = image + self.image_pe
        tokens, added = self.second(tokens, token_pe, hidden, ImageMaps(keys, image, keys))
        image = self.norm_second(image + added)
        tokens, token_pe = tokens[:, :, :OUTPUTS], token_pe[:, :, :OUTPUTS]
        final = self.final(tokens + token_pe, image + self.image_pe, image)
        return image, self.norm_final(tokens + final)

    def tokens(self, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (1, Q, T, C), and what hides those of empty slots as keys, (1, Q, 1, T)."""
        sets, slots = self.sets, self.slots
        prompt, labeled = self.points(
            coords.reshape(1, sets * slots, 2), labels.reshape(1, sets * slots)
        )
        prompt = prompt.reshape(1, sets, slots, prompt.shape[-1])
        labeled = labeled.reshape(1, sets, slots, 4)
        has_point = labeled[:, :, :, :2].sum((2, 3), keepdim=True).clamp(0, 1)  # (1, Q, 1, 1)
        has_box = labeled[:, :, :, 2:].sum((2, 3), keepdim=True).clamp(0, 1)
        outputs = torch.ones(1, sets, 1, OUTPUTS)
        filled = labeled.sum(-1, keepdim=True).permute(0, 1, 3, 2)
        # PyTorch pads a prompt of points without a box with one "not a point" token.
        visible = torch.cat([outputs, filled, has_point * (1 - has_box)], dim=-1)
        tokens = torch.cat([self.output_tokens, prompt, self.not_a_point], dim=2)
        return tokens, (1 - visible) * MASKED


class SetsDecoder(SetsTransformer):
    """What the file `decoder_batch` computes: Q sets of N prompt slots, each as `SlotDecoder` does.

    Returns:
        `low_res_masks` (Q, 4, H/4, W/4) and `iou_predictions` (Q, 4), float32.
    """

    no_mask: Tensor
    padding: Tensor | None

    def __init__(self, sam: Sam, points: int, sets: int) -> None:
        super().__init__(sam, points, sets)
        least = math.ceil(sets / MOST_GROUPS)
        self.group = min(sets, max(least, GROUP_POSITIONS // self.image_pe.shape[2]))
        self.mask_prompts = MaskPrompts(sam)
        self.register_buffer("padding", padding(sam, 4))
        self.keys, self.values, self.queries = (
            FirstMap(sam, layer, pe) for layer, pe in first_layers(sam)
        )
        self.register_buffer("no_mask", no_mask(sam).float()[None, None])
        dense_rows = dense_weight(sam).float().T
        for size in {self.group, sets % self.group or self.group}:  # of groups, also of the last
            self.register_buffer(f"dense_rows{size}", dense_rows.repeat(size, 1, 1)[None])

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        dtype, sets, (rows, columns) = self.image_pe.dtype, self.sets, self.mask_prompts.map_size
        token_pe, hidden = self.tokens(point_coords, point_labels)
        token_pe, hidden = token_pe.to(dtype), hidden.to(dtype)
        mask_input = mask_input.to(dtype).reshape(1, sets * rows * 4, columns * 4)
        given = has_mask_input.to(dtype).reshape(1, sets, 1, 1)
        embedding = image_embeddings.to(dtype).reshape(1, 1, -1, rows * columns).permute(0, 1, 3, 2)
        if self.padding is not None:
            embedding = torch.cat([embedding, self.padding], dim=2)
        maps = (self.keys, self.values, self.queries)
        shared = [part.of_all(embedding) for part in maps]
        masks, ious = [], []
        for start in range(0, sets, self.group):
            end = min(sets, start + self.group)
            dense = self.mask_prompts(
                _part(mask_input, start * rows * 4, end * rows * 4), _part(given, start, end)
            )
            keys, values, queries = (
                part(of_all, dense) for part, of_all in zip(maps, shared, strict=True)
            )
            dense_rows = self.get_buffer(f"dense_rows{end - start}")
            image, tokens = self.attend(
                embedding + self.no_mask,
                ImageMaps(keys, values, queries, (dense, dense_rows)),
                _part(token_pe, start, end),
                _part(hidden, start, end),
            )
            masks.append(self.masks(image, tokens[:, :, 1:]))
            ious.append(self.iou_head(row(tokens, 0)))
        iou = _joined(ious, 1).reshape(sets, mask_decoder.MASK_TOKENS)
        return _joined(masks, 0).to(torch.float32), iou.to(torch.float32)


def _part(x: Tensor, start: int, end: int) -> Tensor:
    """Of the second axis; all of it as it is, because coremltools knows no slice that is none."""
    return x if end - start == x.shape[1] else x[:, start:end]


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def _upsampling(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a transposed convolution of kernel 2 and stride 2: C -> [2, 2, C']."""
    weight = folding.weight(conv)  # (C, C', rows, columns)
    return weight.permute(2, 3, 1, 0).flatten(0, 2), folding.bias(conv).repeat(4)
