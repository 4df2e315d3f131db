"""The image encoder in export form: from the pixels of the contract to `image_embeddings`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH
from mobilesam_export.graphs.convolutions import PatchMerging
from mobilesam_export.graphs.layouts import LAYOUTS, Layout
from mobilesam_export.model import PIXEL_MEAN, Sam, tiny_vit
from mobilesam_export.target import GraphForm


class PixelsInput(nn.Module):
    """(1, H, W, 3) uint8 or float32 RGB 0..255 -> (1, 3, H, W) float32, centred."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))

    def forward(self, image: Tensor) -> Tensor:
        return (image.to(torch.float32) - self.mean).permute(0, 3, 1, 2)


class ImageInput(nn.Module):
    """(1, 3, H, W) RGB 0..255, as Core ML gives an image -> the same, centred.

    Core ML could subtract the mean itself (the bias of an ImageType), but coremltools writes that
    in float32, which keeps it off the Neural Engine. Whole numbers up to 255 are exact in float16.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return image - self.mean


class UnitInput(ImageInput):
    """(1, 3, H, W) float32 RGB 0..1 -> the same, 0..255 and centred."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image * 255)


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


# What comes after the head (stem, stage1, down1), which may be computed tile by tile.
PARTS = ("stage2", "down2", "stage3", "down3", "stage4", "neck")


class Encoder(nn.Module):
    """The encoder file's graph: stem, stage1, down1, stage2, ..., stage4, neck.

    These names, and those of the layers within, are the same in every layout: recipes refer to
    them.

    Args:
        sam: the model; its attention biases are read now, so load the checkpoint before.
        form: see `target.GraphForm`. For image_input = "image" the module takes (1, 3, H, W)
            float32 RGB 0..255, which is what Core ML's ImageType gives it.
    """

    def __init__(self, sam: Sam, form: GraphForm) -> None:
        super().__init__()
        layout = LAYOUTS["tiled" if form.row_tiles else form.layout]
        vit, computed = sam.image_encoder, sam.size.computed
        stages = [stage for stage in vit.layers if isinstance(stage, tiny_vit.Stage)]
        down1, down2, down3 = (stage.downsample for stage in stages[:3])
        assert down1 is not None
        assert down2 is not None
        assert down3 is not None
        sizes = [(computed[0] // stride, computed[1] // stride) for stride in tiny_vit.STRIDES]
        strides = tiny_vit.STRIDES
        self.size = sam.size
        self.pixels = _pixels_input(form.image_input, sam.image_size)
        self.run_head = layout.head(computed[0], form)
        self.stem = layout.stem(vit.patch_embed, form)
        self.stage1 = layout.first_stage(stages[0], form)
        self.down1 = layout.first_merging(down1, form)
        self.stage2 = layout.stage(stages[1], sizes[1], strides[1], form)
        self.down2 = PatchMerging(down2, form.gelu, layout.pointwise)
        self.stage3 = layout.stage(stages[2], sizes[2], strides[2], form)
        self.down3 = PatchMerging(down3, form.gelu, layout.pointwise)
        self.stage4 = layout.stage(stages[3], sizes[3], strides[3], form)
        self.neck = _neck(vit.neck, layout)

    def forward(self, image: Tensor) -> Tensor:
        return self.resumed(0, self.head(image))

    def head(self, image: Tensor) -> Tensor:
        """What the first of PARTS takes."""
        x = self.pixels(image).to(self.neck[0].weight.dtype)
        return self.run_head(self._with_margin(x), self.stem, self.stage1, self.down1)

    def resumed(self, start: int, x: Tensor) -> Tensor:
        """The embedding from what a part takes; `start`: its place in PARTS."""
        for part in PARTS[start:]:
            x = getattr(self, part)(x)
        return self._without_margin(x).to(torch.float32)

    def _with_margin(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) with zeros, the model's own padding, below or to the right."""
        if not self.size.margin:
            return x
        height, width = self.size.computed
        return F.pad(x, (0, width - self.size.width, 0, height - self.size.height))

    def _without_margin(self, x: Tensor) -> Tensor:
        """(1, 256, H/16, W/16) of an embedding with what was computed of the margin."""
        rows, columns = self.size.over(PATCH)
        return x[:, :, :rows, :columns] if self.size.margin else x


def _pixels_input(image_input: str, side: int) -> nn.Module:
    if image_input == "image":
        return ImageInput()
    if image_input == "segmenter":
        return UnitInput()
    return SamPixelsInput(side) if image_input == "sam" else PixelsInput()


def _neck(neck: nn.Sequential, layout: Layout) -> nn.Sequential:
    narrow, norm, conv, last_norm = neck
    assert isinstance(narrow, nn.Conv2d)
    assert isinstance(norm, tiny_vit.LayerNorm2d)
    assert isinstance(last_norm, tiny_vit.LayerNorm2d)
    return nn.Sequential(layout.pointwise(narrow), layout.norm(norm), conv, layout.norm(last_norm))
