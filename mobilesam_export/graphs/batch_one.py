"""TinyViT and the decoder for GPU delegates of TFLite: four axes at most, the first one 1.

A GPU delegate takes the first axis for a batch, and products of tensors with a batch, or with fewer
axes than four, have been computed wrongly (LiteRT#8619). So windows stand in the second axis, each
head has its own projections, and no head is ever cut out of a wider tensor: maps are (1, H, W, C),
windows (1, windows, tokens, C), and attention of one head (1, windows, tokens, C / heads).
"""

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import decoder, folding
from mobilesam_export.graphs.channel_last import LayerNorm2d, TokensBlock
from mobilesam_export.model import Sam, mask_decoder, tiny_vit
from mobilesam_export.target import GraphForm

__all__ = ["LayerNorm2d", "SlotDecoder", "Stage"]


class Head(nn.Module):
    """One head of window attention, (1, windows, tokens, C) -> (1, windows, tokens, C / heads)."""

    bias: Tensor

    def __init__(self, attention: folding.AttentionWeights, head: int, heads: int) -> None:
        super().__init__()
        width = attention.q.shape[0] // heads
        rows = slice(head * width, (head + 1) * width)
        self.q = folding.linear(attention.q[rows], attention.q_bias[rows])
        self.k = folding.linear(attention.k[rows])
        self.v = folding.linear(attention.v[rows])
        self.register_buffer("bias", attention.bias[head].float()[None, None])

    def forward(self, x: Tensor) -> Tensor:
        logits = self.q(x) @ self.k(x).permute(0, 1, 3, 2) + self.bias
        return logits.softmax(-1) @ self.v(x)


class Block(TokensBlock):
    """(1, H, W, C) -> same, its windows (1, windows, tokens, C)."""

    def _add_attention(self, attention: folding.AttentionWeights) -> None:
        self.attention = nn.ModuleList(
            Head(attention, head, self.heads) for head in range(self.heads)
        )

    def _attend(self, x: Tensor) -> Tensor:
        x = self._partition(x, self.windows, self.side)
        x = x.reshape(1, self.windows**2, self.tokens, self.width)
        y = torch.cat([head(x) for head in self.attention], dim=-1)
        return self._crop_and_project(y, self.windows, self.side)


class Stage(nn.Module):
    """(1, C, H, W) -> (1, C, H, W)."""

    def __init__(self, stage: tiny_vit.Stage, side: int, stride: int, form: GraphForm) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(block, side, form.gelu) for block in stage.blocks))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Upsampling(nn.Module):
    """A transposed convolution of kernel 2 and stride 2, without TRANSPOSE_CONV.

    No two products of it fall on the same pixel: the two rows that a row becomes are two 1x1
    convolutions, whose channels are the two columns. (1, C, H, W) -> (1, C', 2H, 2W).
    """

    def __init__(self, conv: nn.ConvTranspose2d, side: int) -> None:
        super().__init__()
        self.side, self.width = side, conv.out_channels
        weight = conv.weight.detach().double()  # (C, C', rows, columns)
        bias = None if conv.bias is None else conv.bias.detach().double().repeat(2)
        self.rows = nn.ModuleList(
            folding.pointwise(weight[:, :, row].permute(2, 1, 0).flatten(0, 1), bias)
            for row in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        side = self.side
        rows = [
            row(x).permute(0, 2, 3, 1).reshape(1, side, 1, 2 * side * self.width)
            for row in self.rows
        ]
        y = torch.cat(rows, dim=2)
        return y.reshape(1, 2 * side, 2 * side, self.width).permute(0, 3, 1, 2)


class HyperNetworks(nn.Module):
    """The four MLPs that make a mask's kernel of its token, one after the other."""

    def __init__(self, model: mask_decoder.MaskDecoder) -> None:
        super().__init__()
        self.mlps = model.output_hypernetworks_mlps

    def forward(self, tokens: Tensor) -> list[Tensor]:  # (1, 4, C) -> 4 times (1, 1, 32)
        return [mlp(tokens[:, i : i + 1]) for i, mlp in enumerate(self.mlps)]


class MaskTransformer(decoder.MaskTransformer):
    """The same with parts that a GPU delegate takes."""

    def __init__(self, sam: Sam, tokens: int, upsampling: str) -> None:
        super().__init__(sam, tokens)
        self.separate = HyperNetworks(sam.mask_decoder)
        del self.hyper_networks
        if upsampling == "pointwise":
            layers = list(self.upscaling)
            for place, side in ((0, self.side), (3, 2 * self.side)):
                conv = layers[place]
                assert isinstance(conv, nn.ConvTranspose2d)
                layers[place] = Upsampling(conv, side)
            self.upscaling = nn.Sequential(*layers)

    def masks(self, upscaled: Tensor, tokens: Tensor) -> Tensor:
        """(1, S/4, S/4, 32) and (1, 4, C) -> (1, S/4, S/4, 4), by channel-wise products."""
        kernels = [kernel.reshape(1, 1, 1, -1) for kernel in self.separate(tokens)]
        return torch.cat([(upscaled * kernel).sum(-1, keepdim=True) for kernel in kernels], dim=-1)


class SlotDecoder(decoder.SlotDecoder):
    """The decoder of the slots contract from these parts."""

    def __init__(self, sam: Sam, points: int, upsampling: str) -> None:
        super().__init__(sam, points)
        self.transformer = MaskTransformer(sam, 5 + points + 1, upsampling)
