"""The decoder for GPU delegates of TFLite; see `batch_one` for their rules."""

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import decoder, pointwise
from mobilesam_export.model import Sam, mask_decoder


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
            self.upscaling = pointwise.upsampled(self.upscaling, sam.size)

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
