"""SAM's own image encoder, a plain ViT: the teacher of MobileSAM. Official parameter names.

Architecture: Segment Anything (Kirillov et al., 2023, arXiv:2304.02643) with the encoder of ViTDet
(Li et al., 2022, arXiv:2203.16527): most blocks attend inside windows, a few to the whole image,
and positions are relative, by row and by column (MViTv2, arXiv:2112.01526).

Shapes: B images, C the width, H x W tokens of 16 x 16 pixels, d the width of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.model.tiny_vit import EMBEDDING_WIDTH, LayerNorm2d

PATCH = 16  # side in pixels
EPSILON = 1e-6  # of LayerNorm


@dataclass(frozen=True)
class VitShape:
    """The numbers of an encoder. ViT-B: 768, 12, 12; ViT-L: 1024, 24, 16; ViT-H: 1280, 32, 16.

    Attributes:
        width: C.
        depth: blocks.
        heads: of each.
        mlp_width: inner width of the MLPs.
        side: tokens along a side of the images that it was trained on: 64.
        window: side of a window, in tokens: 14.
        whole_image: numbers of the blocks without windows.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    side: int
    window: int
    whole_image: frozenset[int]


class PatchEmbed(nn.Module):
    """(B, 3, S, S) -> (B, H, W, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Attention over H x W tokens; the logits depend on rows and columns between two tokens.

    A logit is q.k / sqrt(d) + q.rows[y - y'] + q.columns[x - x']. The last two are products as
    well, of what q makes of each distance with a unit vector that says where k is. So they go into
    q and k as further channels, and no (HW, HW) tensor is ever written.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> same
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, HW, d)
        depth = q.shape[-1]
        q, k = self._with_positions(q, k, height, width)
        # v as wide as q and k, which is what torch's fused kernels ask for
        v = F.pad(v, (0, height + width))
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :depth]
        return self.proj(y.transpose(1, 2).reshape(batch, height, width, channels))

    def _with_positions(
        self, q: Tensor, k: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:  # (B, heads, HW, d) -> (B, heads, HW, d + H + W)
        grid = q.reshape(*q.shape[:2], height, width, -1)
        rows = torch.einsum("bnhwd,hkd->bnhwk", grid, distances(self.rel_pos_h, height))
        columns = torch.einsum("bnhwd,wkd->bnhwk", grid, distances(self.rel_pos_w, width))
        q = torch.cat([q * q.shape[-1] ** -0.5, rows.flatten(2, 3), columns.flatten(2, 3)], dim=-1)
        is_row = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
        is_column = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
        where = torch.cat([is_row, is_column], dim=-1).expand(*k.shape[:3], -1)
        return q.to(k.dtype), torch.cat([k, where], dim=-1)


def distances(table: Tensor, side: int) -> Tensor:
    """(2 * trained side - 1, d) -> (side, side, d): the entry of a table for each pair of places.

    Tables of another side than was trained are interpolated, as in SAM's own code.
    """
    length = 2 * side - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], length, mode="linear")[0].T
    places = torch.arange(side, device=table.device)
    return table[places[:, None] - places[None, :] + side - 1]


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, inner_width)
        self.lin2 = nn.Linear(inner_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Module):
    """Attention and an MLP, each with a residual; `window` 0 attends to the whole image."""

    def __init__(self, shape: VitShape, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(shape.width, EPSILON)
        self.attn = Attention(shape.width, shape.heads, window or shape.side)
        self.norm2 = nn.LayerNorm(shape.width, EPSILON)
        self.mlp = Mlp(shape.width, shape.mlp_width)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> same
        y = self.norm1(x)
        x = x + (self._attend(y) if self.window else self.attn(y))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        ws = self.window
        x = F.pad(x, (0, 0, 0, -width % ws, 0, -height % ws))  # zeros, which join the attention
        rows, columns = x.shape[1] // ws, x.shape[2] // ws
        x = x.view(batch, rows, ws, columns, ws, channels).transpose(2, 3)
        x = self.attn(x.reshape(-1, ws, ws, channels))
        x = x.view(batch, rows, columns, ws, ws, channels).transpose(2, 3)
        return x.reshape(batch, rows * ws, columns * ws, channels)[:, :height, :width]


class ImageEncoderViT(nn.Module):
    """(B, 3, S, S) float32, normalised RGB -> (B, 256, S/16, S/16) float32, for any S."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(shape.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.side, shape.side, shape.width))
        self.blocks = nn.ModuleList(
            Block(shape, 0 if number in shape.whole_image else shape.window)
            for number in range(shape.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(shape.width, EMBEDDING_WIDTH, 1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
            nn.Conv2d(EMBEDDING_WIDTH, EMBEDDING_WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        x = x + self._positions(x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, H, W, C); interpolated where the image has another size than in SAM's training."""
        if self.pos_embed.shape[1:3] == (height, width):
            return self.pos_embed
        table = self.pos_embed.permute(0, 3, 1, 2)
        return F.interpolate(table, (height, width), mode="bilinear").permute(0, 2, 3, 1)
