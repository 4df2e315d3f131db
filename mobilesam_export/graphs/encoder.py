"""The image encoder in export form: from the pixels of the contract to `image_embeddings`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import batch_one, channel_first, channel_last, folding, window_block
from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, Sam, tiny_vit
from mobilesam_export.target import GraphForm

LAYOUTS = {
    "channel-last": channel_last,
    "channel-first": channel_first,
    "batch-one": batch_one,
}


class PixelsInput(nn.Module):
    """(1, S, S, 3) uint8 or float32 RGB 0..255 -> (1, 3, S, S) float32, centred."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))

    def forward(self, image: Tensor) -> Tensor:
        return (image.to(torch.float32) - self.mean).permute(0, 3, 1, 2)


class ImageInput(nn.Module):
    """(1, 3, S, S) RGB 0..255, as Core ML gives an image -> the same, centred.

    Core ML could subtract the mean itself (the bias of an ImageType), but coremltools writes that
    in float32, which keeps it off the Neural Engine. Whole numbers up to 255 are exact in float16.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return image - self.mean


class SamPixelsInput(nn.Module):
    """(H, W, 3) float32 RGB 0..255, H and W up to S and dynamic -> (1, 3, S, S), centred.

    As SAM's own `preprocess`: normalised first, then padded with zeros.
    """

    mean: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))

    def forward(self, image: Tensor) -> Tensor:
        height, width, _ = image.shape
        x = (image - self.mean).permute(2, 0, 1)[None]
        return F.pad(x, (0, self.side - width, 0, self.side - height))


class Bottleneck(nn.Module):
    """`tiny_vit.MBConv` with its batch norms folded, its hidden channels in parts."""

    def __init__(self, block: tiny_vit.MBConv, gelu: str, parts: int) -> None:
        super().__init__()
        convs = [folding.fold_batch_norm(c) for c in (block.conv1, block.conv2, block.conv3)]
        self.parts = nn.ModuleList(
            nn.Sequential(part.expand, nn.GELU(gelu), *part.between, nn.GELU(gelu), part.project)
            for part in folding.split_hidden(convs[0], convs[1], convs[2], parts)
        )
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for part in self.parts:
            y = y + part(x)
        return F.gelu(y, approximate=self.gelu)


class Encoder(nn.Module):
    """What the encoder file computes.

    Args:
        sam: the model; its attention biases are read now, so load the checkpoint before.
        form: see `target.GraphForm`. For pixels = "image" the module takes (1, 3, S, S) float32
            RGB 0..255, which is what Core ML's ImageType gives it.
    """

    def __init__(self, sam: Sam, form: GraphForm) -> None:
        super().__init__()
        layout, gelu = LAYOUTS[form.layout], form.gelu
        encoder, side = sam.image_encoder, sam.image_size
        self.gelu = gelu
        self.pixels = _pixels_input(form.pixels, side)
        self.stem = _stem(encoder.patch_embed, gelu)
        body: list[nn.Module] = []
        for stage, stride in zip(encoder.layers, tiny_vit.STRIDES, strict=True):
            assert isinstance(stage, tiny_vit.Stage)
            if stride == tiny_vit.STRIDES[0]:
                parts = window_block.hidden_parts(form, tiny_vit.WIDTHS[0], stride)
                body += [Bottleneck(block, gelu, parts) for block in stage.blocks]  # type: ignore[arg-type]
            else:
                body.append(layout.Stage(stage, side // stride, stride, form))
            if stage.downsample is not None:
                body.append(_downsample(stage.downsample, gelu))
        self.body = nn.Sequential(*body)
        self.neck = nn.Sequential(
            encoder.neck[0],
            layout.LayerNorm2d(encoder.neck[1]),
            encoder.neck[2],
            layout.LayerNorm2d(encoder.neck[3]),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.pixels(image).to(self.neck[0].weight.dtype)
        return self.neck(self.body(self.stem(x))).to(torch.float32)


def _pixels_input(pixels: str, side: int) -> nn.Module:
    if pixels == "image":
        return ImageInput()
    return SamPixelsInput(side) if pixels == "sam" else PixelsInput()


def _stem(embed: tiny_vit.PatchEmbed, gelu: str) -> nn.Sequential:
    first, _, second = embed.seq
    assert isinstance(first, tiny_vit.Conv2dBN)
    assert isinstance(second, tiny_vit.Conv2dBN)
    scaled = folding.fold_pixel_std(folding.fold_batch_norm(first), PIXEL_STD)
    return nn.Sequential(scaled, nn.GELU(gelu), folding.fold_batch_norm(second))


def _downsample(merging: tiny_vit.PatchMerging, gelu: str) -> nn.Sequential:
    convs = [folding.fold_batch_norm(c) for c in (merging.conv1, merging.conv2, merging.conv3)]
    return nn.Sequential(convs[0], nn.GELU(gelu), convs[1], nn.GELU(gelu), convs[2])
