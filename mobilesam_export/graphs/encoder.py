"""The image encoder in export form: from the pixels of the contract to `image_embeddings`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.graphs import channel_first, channel_last, folding
from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, Sam, tiny_vit

LAYOUTS = {"channel-last": channel_last, "channel-first": channel_first}


class PixelsInput(nn.Module):
    """(1, S, S, 3) uint8 or float32 RGB 0..255 -> (1, 3, S, S) float32, centred."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))

    def forward(self, image: Tensor) -> Tensor:
        return (image.to(torch.float32) - self.mean).permute(0, 3, 1, 2)


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
    """`tiny_vit.MBConv` with its batch norms folded."""

    def __init__(self, block: tiny_vit.MBConv, gelu: str) -> None:
        super().__init__()
        self.expand = folding.fold_batch_norm(block.conv1)
        self.depthwise = folding.fold_batch_norm(block.conv2)
        self.project = folding.fold_batch_norm(block.conv3)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.expand(x), approximate=self.gelu)
        y = F.gelu(self.depthwise(y), approximate=self.gelu)
        return F.gelu(self.project(y) + x, approximate=self.gelu)


class Encoder(nn.Module):
    """What the encoder file computes.

    Args:
        sam: the model; its attention biases are read now, so load the checkpoint before.
        layout: a key of LAYOUTS.
        pixels: what the file's input is, see `target.GraphForm`. For "image" the module takes
            (1, 3, S, S) float32 RGB minus the mean, which is what Core ML's ImageType gives it.
        gelu: "none" (exact) or "tanh", as torch names them.
    """

    def __init__(self, sam: Sam, layout: str, pixels: str, gelu: str = "none") -> None:
        super().__init__()
        form = LAYOUTS[layout]
        encoder, side = sam.image_encoder, sam.image_size
        self.pixels = _pixels_input(pixels, side)
        self.stem = _stem(encoder.patch_embed, gelu)
        body: list[nn.Module] = []
        for stage, stride in zip(encoder.layers, tiny_vit.STRIDES, strict=True):
            assert isinstance(stage, tiny_vit.Stage)
            if stride == tiny_vit.STRIDES[0]:
                body += [Bottleneck(block, gelu) for block in stage.blocks]  # type: ignore[arg-type]
            else:
                body.append(form.Stage(stage, side // stride, gelu))
            if stage.downsample is not None:
                body.append(_downsample(stage.downsample, gelu))
        self.body = nn.Sequential(*body)
        self.neck = nn.Sequential(
            encoder.neck[0],
            form.LayerNorm2d(encoder.neck[1]),
            encoder.neck[2],
            form.LayerNorm2d(encoder.neck[3]),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.pixels(image).to(self.neck[0].weight.dtype)
        return self.neck(self.body(self.stem(x))).to(torch.float32)


def _pixels_input(pixels: str, side: int) -> nn.Module:
    if pixels == "image":
        return nn.Identity()
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
