"""Prompt encoder and mask decoder as one graph without any indexing.

Shapes: N prompt slots, T = 5 + N (+ 1) tokens, P = (S/16)**2 positions, C = 256, 8 heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH
from mobilesam_export.graphs import positions
from mobilesam_export.graphs.norms import export_norms
from mobilesam_export.model import Sam, mask_decoder, prompt_encoder

HEADS = mask_decoder.HEADS
EMPTY_SLOT = -1.0
# Added to the logits of a key that must not be seen: exp() of it is 0 in float32 and float16.
MASKED = -4096.0


def averages(weights: Tensor, values: Tensor, terms: int) -> Tensor:
    """(1, B, T, P) and (1, B, P, D) -> their product (1, B, T, D).

    Args:
        weights: of P positions.
        values: of each.
        terms: that are added up in one product, a divisor of P, the products by themselves; 0 for
            all at once.
    """
    if not terms:
        return weights @ values
    _, sets, tokens, positions = weights.shape
    parts = positions // terms
    weights = weights.reshape(sets, tokens, parts, terms).permute(0, 2, 1, 3)
    values = values.reshape(sets, parts, terms, values.shape[3])
    return (weights @ values).sum(1)[None]


def one_hot(labels: Tensor, codes: Tensor) -> Tensor:
    """(1, N) whole numbers as float32, (K) codes -> (1, N, K), 1 where they agree, else 0."""
    return F.relu(1 - (labels[:, :, None] - codes).abs())


class PointTokens(nn.Module):
    """Coordinates and labels -> the learned and positional parts of their tokens."""

    gaussian: Tensor
    table: Tensor
    codes: Tensor

    def __init__(self, encoder: prompt_encoder.PromptEncoder) -> None:
        super().__init__()
        self.image_size = encoder.image_size
        gaussian = encoder.pe_layer.positional_encoding_gaussian_matrix
        self.register_buffer("gaussian", gaussian.clone())
        self.register_buffer("table", encoder.point_tables().detach().clone())
        self.register_buffer("codes", torch.arange(4, dtype=torch.float32))

    def forward(self, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(1, N, 2) and (1, N) -> tokens (1, N, C), 0 if empty, and one-hot labels (1, N, 4)."""
        labeled = one_hot(labels, self.codes)
        valid = labeled.sum(-1, keepdim=True)  # (1, N, 1)
        turns = ((coords + 0.5) * (2 / self.image_size) - 1) @ self.gaussian
        # Whole turns change nothing, and without them sin and cos stay exact in low precision.
        angles = (turns - turns.round()) * (2 * math.pi)
        position = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return position * valid + labeled @ self.table, labeled


class MaskPrompt(nn.Module):
    """The dense part of a prompt: (1, 1, H/4, W/4) and (1) -> (1, C, H/16, W/16)."""

    no_mask: Tensor

    def __init__(self, encoder: prompt_encoder.PromptEncoder) -> None:
        super().__init__()
        self.layers = export_norms(encoder.mask_downscaling)
        self.register_buffer("no_mask", encoder.no_mask_embed.weight.detach().reshape(1, -1, 1, 1))

    def forward(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        given = has_mask_input.to(self.no_mask.dtype).reshape(1, 1, 1, 1)
        return self.layers(mask_input.to(given.dtype)) * given + self.no_mask * (1 - given)


class Attention(nn.Module):
    """`mask_decoder.Attention` on rank-4, batch-1 tensors, with an optional key mask."""

    def __init__(self, attention: mask_decoder.Attention, queries: int, keys: int) -> None:
        super().__init__()
        self.q, self.k = attention.q_proj, attention.k_proj
        self.v, self.out = attention.v_proj, attention.out_proj
        self.queries, self.keys = queries, keys  # -1: not known, a dynamic number of points
        self.inner = attention.q_proj.out_features
        self.scale = (self.inner // HEADS) ** -0.5
        self.terms = 0  # see `averages`

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
        q, k, v = self.q(q) * self.scale, self.k(k), self.v(v)
        q = q.reshape(1, self.queries, HEADS, self.inner // HEADS).permute(0, 2, 1, 3)
        k = k.reshape(1, self.keys, HEADS, self.inner // HEADS).permute(0, 2, 3, 1)
        v = v.reshape(1, self.keys, HEADS, self.inner // HEADS).permute(0, 2, 1, 3)
        logits = q @ k  # (1, heads, queries, keys)
        if key_mask is not None:
            logits = logits + key_mask
        y = averages(logits.softmax(-1), v, self.terms).permute(0, 2, 1, 3)
        return self.out(y.reshape(1, self.queries, self.inner))


class TwoWayBlock(nn.Module):
    """`mask_decoder.TwoWayAttentionBlock` that hides empty slots wherever tokens are keys."""

    def __init__(self, block: mask_decoder.TwoWayAttentionBlock, tokens: int, keys: int) -> None:
        super().__init__()
        self.first = block.first
        self.self_attn = Attention(block.self_attn, tokens, tokens)
        self.to_image = Attention(block.cross_attn_token_to_image, tokens, keys)
        self.to_tokens = Attention(block.cross_attn_image_to_token, keys, tokens)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.norm3, self.norm4 = block.norm3, block.norm4
        self.mlp = block.mlp

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens, mask))
        else:
            q = tokens + token_pe
            tokens = self.norm1(tokens + self.self_attn(q, q, tokens, mask))
        keys = image + image_pe
        tokens = self.norm2(tokens + self.to_image(tokens + token_pe, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.to_tokens(keys, tokens + token_pe, tokens, mask)
        return tokens, self.norm4(image)


class HyperNetworks(nn.Module):
    """The four MLPs that make a mask's kernel of its token, as batched products."""

    weight0: Tensor
    weight1: Tensor
    weight2: Tensor
    bias0: Tensor
    bias1: Tensor
    bias2: Tensor

    def __init__(self, decoder: mask_decoder.MaskDecoder) -> None:
        super().__init__()
        mlps = decoder.output_hypernetworks_mlps
        for depth in range(3):
            layers = [mlp.get_submodule(f"layers.{depth}") for mlp in mlps]
            weight = torch.stack([x.get_parameter("weight").detach().T for x in layers])
            bias = torch.stack([x.get_parameter("bias").detach()[None] for x in layers])
            # (4, in, out) and (4, 1, out)
            self.register_buffer(f"weight{depth}", weight.contiguous())
            self.register_buffer(f"bias{depth}", bias)

    def forward(self, tokens: Tensor) -> Tensor:  # (4, 1, C) -> (4, 1, 32)
        x = F.relu(tokens @ self.weight0 + self.bias0)
        x = F.relu(x @ self.weight1 + self.bias1)
        return x @ self.weight2 + self.bias2


class MaskTransformer(nn.Module):
    """Tokens and embedding -> all four masks; what is the same for both prompt contracts.

    Args:
        sam: the model.
        tokens: how many there are, or -1 if that is dynamic.
    """

    image_pe: Tensor
    padding: Tensor | None
    output_tokens: Tensor

    def __init__(self, sam: Sam, tokens: int) -> None:
        super().__init__()
        decoder, transformer = sam.mask_decoder, sam.mask_decoder.transformer
        self.map_size, self.positions = sam.size.over(PATCH), sam.size.positions
        self.register_buffer("image_pe", positions.encoding(sam).contiguous())
        keys = self.image_pe.shape[1]
        no_mask, padding = (
            sam.prompt_encoder.no_mask_embed.weight.detach(),
            positions.padding(sam, 3),
        )
        self.register_buffer("padding", None if padding is None else padding + no_mask)
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.register_buffer("output_tokens", outputs.detach()[None])  # (1, 5, C)
        self.blocks = nn.ModuleList(
            TwoWayBlock(layer, tokens, keys)  # type: ignore[arg-type]
            for layer in transformer.layers
        )
        self.final = Attention(transformer.final_attn_token_to_image, tokens, keys)
        self.norm_final = transformer.norm_final_attn
        self.upscaling = export_norms(decoder.output_upscaling)
        self.hyper_networks = self._hyper_networks(decoder)
        self.iou_head = decoder.iou_prediction_head

    def forward(
        self, image_embeddings: Tensor, prompt: Tensor, dense: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        dtype = self.image_pe.dtype
        image_embeddings, prompt = image_embeddings.to(dtype), prompt.to(dtype)
        mask = None if mask is None else mask.to(dtype)
        token_pe = torch.cat([self.output_tokens, prompt], dim=1)
        width = token_pe.shape[-1]
        image = (image_embeddings + dense).reshape(1, width, self.positions).permute(0, 2, 1)
        if self.padding is not None:
            image = torch.cat([image, self.padding], dim=1)
        tokens = token_pe
        for block in self.blocks:
            tokens, image = block(tokens, image, token_pe, self.image_pe, mask)
        final = self.final(tokens + token_pe, image + self.image_pe, image)
        tokens = self.norm_final(tokens + final)
        if self.padding is not None:
            image = image[:, : self.positions]
        image = image.permute(0, 2, 1).reshape(1, width, *self.map_size)
        upscaled = self.upscaling(image).permute(0, 2, 3, 1)  # (1, H/4, W/4, 32)
        masks = self.masks(upscaled, tokens[:, 1:5])
        iou = self.iou_head(tokens[:, :1]).reshape(1, mask_decoder.MASK_TOKENS)
        return masks.permute(0, 3, 1, 2).to(torch.float32), iou.to(torch.float32)

    def _hyper_networks(self, decoder: mask_decoder.MaskDecoder) -> nn.Module:
        return HyperNetworks(decoder)

    def masks(self, upscaled: Tensor, tokens: Tensor) -> Tensor:
        """(1, H/4, W/4, 32) and the mask tokens (1, 4, C) -> (1, H/4, W/4, 4)."""
        kernels = self.hyper_networks(tokens.permute(1, 0, 2))  # (4, 1, 32)
        # Four axes on purpose: flattened, the map would be one axis of H/4 W/4, 65,536.
        return upscaled @ kernels.permute(1, 2, 0)[None]


class PromptedDecoder(nn.Module):
    """The parts of a decoder file; how it treats points is up to the contract."""

    not_a_point: Tensor

    def __init__(self, sam: Sam, tokens: int) -> None:
        super().__init__()
        self.points = PointTokens(sam.prompt_encoder)
        self.mask_prompt = MaskPrompt(sam.prompt_encoder)
        not_a_point = sam.prompt_encoder.not_a_point_embed.weight.detach()[None]
        self.register_buffer("not_a_point", not_a_point)  # (1, 1, C)
        self.transformer = MaskTransformer(sam, tokens)


class SlotDecoder(PromptedDecoder):
    """What the decoder file computes: N prompt slots, each filled or exactly neutral."""

    def __init__(self, sam: Sam, points: int) -> None:
        super().__init__(sam, tokens=5 + points + 1)

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        prompt, mask = self.tokens(point_coords, point_labels)
        dense = self.mask_prompt(mask_input, has_mask_input)
        return self.transformer(image_embeddings, prompt, dense, mask)

    def tokens(self, point_coords: Tensor, point_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the prompt (1, N + 1, C), and what hides empty slots as keys, (1, 1, 1, T)."""
        prompt, labeled = self.points(point_coords, point_labels)
        # Three axes throughout: GPU delegates cut no tensor with two.
        has_point = labeled[:, :, :2].sum((1, 2), keepdim=True).clamp(0, 1)  # (1, 1, 1)
        has_box = labeled[:, :, 2:].sum((1, 2), keepdim=True).clamp(0, 1)
        # PyTorch pads a prompt of points without a box with one "not a point" token.
        padded = has_point * (1 - has_box)
        outputs = torch.ones(1, 1, 5, device=point_labels.device)
        slots = labeled.sum(-1, keepdim=True).permute(0, 2, 1)
        visible = torch.cat([outputs, slots, padded], dim=-1)  # (1, 1, T)
        mask = ((1 - visible) * MASKED)[:, None]  # (1, 1, 1, T)
        return torch.cat([prompt, self.not_a_point], dim=1), mask


class SamDecoder(PromptedDecoder):
    """The prompt contract of SAM's own ONNX decoder: any number of points, label -1 included.

    A point with label -1 is the "not a point" token, visible as all others are: the client adds
    one to prompts without a box, as SAM's documentation tells it to. The mask that the client
    wants is chosen in the graph by SAM's rule: with up to two points (a click and its padding)
    the best of tokens 1..3, otherwise token 0.

    Returns:
        `low_res_masks` (1, 1, S/4, S/4) and `iou_predictions` (1, 1), float32.
    """

    first_token: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__(sam, tokens=-1)
        self.register_buffer("first_token", torch.tensor([[1000.0, 0, 0, 0]]))

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        prompt, _ = self.points(point_coords, point_labels)
        empty = F.relu(1 - (point_labels - EMPTY_SLOT).abs())[:, :, None]
        prompt = prompt + empty * self.not_a_point
        dense = self.mask_prompt(mask_input, has_mask_input)
        masks, iou = self.transformer(image_embeddings, prompt, dense, None)
        # SAM's own weighting: token 0 loses by far up to two points, and wins by far beyond.
        count = torch.ones_like(point_labels).sum(dim=1, keepdim=True)  # (1, 1)
        ranking = iou + (count - 2.5) * self.first_token
        best = ranking.argmax(dim=1)
        return masks.index_select(1, best), iou.index_select(1, best)
