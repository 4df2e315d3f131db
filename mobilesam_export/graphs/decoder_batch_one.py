"""The decoder for GPU delegates of TFLite; see `batch_one` for their rules."""

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import decoder, folding
from mobilesam_export.model import Sam, mask_decoder


class Upsampling(nn.Module):
    """A transposed convolution of kernel 2 and stride 2, without TRANSPOSE_CONV.

    No two products of it fall on the same pixel: the two rows that a row becomes are two 1x1
    convolutions, whose channels are the two columns. (1, C, H, W) -> (1, C', 2H, 2W).
    """

    def __init__(self, conv: nn.ConvTranspose2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.width = size, conv.out_channels
        weight = conv.weight.detach().double()  # (C, C', rows, columns)
        bias = None if conv.bias is None else conv.bias.detach().double().repeat(2)
        self.rows = nn.ModuleList(
            folding.pointwise(weight[:, :, row].permute(2, 1, 0).flatten(0, 1), bias)
            for row in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size
        rows = [
            row(x).permute(0, 2, 3, 1).reshape(1, height, 1, 2 * width * self.width)
            for row in self.rows
        ]
        y = torch.cat(rows, dim=2)
        return y.reshape(1, 2 * height, 2 * width, self.width).permute(0, 3, 1, 2)


class HyperNetworks(nn.Module):
    """The four MLPs that make a mask's kernel of its token, one after the other."""

    def __init__(self, decoder: mask_decoder.MaskDecoder) -> None:
        super().__init__()
        self.mlps = decoder.output_hypernetworks_mlps

    def forward(self, tokens: Tensor) -> list[Tensor]:  # (1, 4, C) -> 4 times (1, 1, 32)
        return [mlp(tokens[:, i : i + 1]) for i, mlp in enumerate(self.mlps)]


class MaskTransformer(decoder.MaskTransformer):
    """`SlotDecoder` built from operations that a GPU delegate supports."""

    def __init__(self, sam: Sam, tokens: int, upsampling: str) -> None:
        super().__init__(sam, tokens)
        if upsampling == "pointwise":
            layers = list(self.upscaling)
            for place, stride in ((0, 16), (3, 8)):
                conv = layers[place]
                assert isinstance(conv, nn.ConvTranspose2d)
                layers[place] = Upsampling(conv, sam.size.over(stride))
            self.upscaling = nn.Sequential(*layers)

    def _hyper_networks(self, model: mask_decoder.MaskDecoder) -> nn.Module:
        return HyperNetworks(model)

    def masks(self, upscaled: Tensor, tokens: Tensor) -> Tensor:
        """(1, H/4, W/4, 32) and (1, 4, C) -> (1, H/4, W/4, 4), by channel-wise products."""
        kernels = [kernel.reshape(1, 1, 1, -1) for kernel in self.hyper_networks(tokens)]
        return torch.cat([(upscaled * kernel).sum(-1, keepdim=True) for kernel in kernels], dim=-1)


class SlotDecoder(decoder.SlotDecoder):
    """The decoder of the slots contract from these parts."""

    def __init__(self, sam: Sam, points: int, upsampling: str) -> None:
        super().__init__(sam, points)
        self.transformer = MaskTransformer(sam, 5 + points + 1, upsampling)
