"""The whole MobileSAM: image encoder, prompt encoder and mask decoder."""

from collections.abc import Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract.frame import PATCH, Frame, square
from mobilesam_export.model.architecture import MOBILESAM, Architecture, architecture_of
from mobilesam_export.model.beyond import Beyond
from mobilesam_export.model.mask_decoder import MaskDecoder
from mobilesam_export.model.prompt_encoder import PromptEncoder
from mobilesam_export.model.tiny_vit import TinyViT, TinyViTBlock

# RGB on the scale 0..255; the values of ImageNet that SAM was trained with.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Sam(nn.Module):
    """MobileSAM, or a student of it.

    Parameter names are those of the official checkpoint, so that it loads strictly. Weights
    do not depend on the image size.

    Args:
        image_size: S of a square input, or the part H x W of the model's square that the input is.
        architecture: of the encoder.

    Attributes:
        padding: (1, 256, S/16, S/16), the embedding of a square of padding, for the decoder of a
            rectangle; of the weights that `build_sam` has loaded. Empty for a square.
    """

    padding: Tensor

    def __init__(
        self, image_size: int | Frame = 1024, architecture: Architecture = MOBILESAM
    ) -> None:
        super().__init__()
        self.size = image_size if isinstance(image_size, Frame) else square(image_size)
        self.image_encoder = TinyViT(architecture)
        self.prompt_encoder = PromptEncoder(self.size.side)
        self.mask_decoder = MaskDecoder()
        side = 0 if self.size.is_square else self.size.side // PATCH
        self.register_buffer("padding", torch.zeros(1, 256, side, side), persistent=False)

    @property
    def image_size(self) -> int:
        """S, the side of the model's square."""
        return self.size.side

    def encode(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) float32, normalised RGB -> (1, 256, H/16, W/16) float32.

        The margin of a rectangle, zeros as the square's padding is, is computed and dropped.
        """
        if not self.size.margin:
            return self.image_encoder(image)
        height, width = self.size.computed
        padded = F.pad(image, (0, width - self.size.width, 0, height - self.size.height))
        rows, columns = self.size.over(PATCH)
        return self.image_encoder(padded)[:, :, :rows, :columns].contiguous()

    def decode(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor | None = None,
        point_labels: Tensor | None = None,
        box: Tensor | None = None,
        mask_input: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """B prompts of one kind on one image -> logits (B, 4, H/4, W/4), predicted IoU (B, 4).

        Args:
            image_embeddings: (1, 256, H/16, W/16) float32, from `encode`, or one for each prompt.
            point_coords: (B, N, 2) float32, x and y in pixels of the input.
            point_labels: (B, N), 1 foreground, 0 background.
            box: (B, 4) float32, x0, y0, x1, y1 in the same pixels.
            mask_input: (B, 1, H/4, W/4) float32 logits, e.g. of an earlier prediction.
        """
        if not self.size.is_square:
            image_embeddings = self.completed(image_embeddings, self.padding)
        sparse, dense = self.prompt_encoder(point_coords, point_labels, box, mask_input)
        if mask_input is not None and not self.size.is_square:
            no_mask = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
            dense = self.completed(dense, no_mask.expand_as(image_embeddings))
        image_pe = self.prompt_encoder.image_pe()
        masks, iou = self.mask_decoder(image_embeddings, image_pe, sparse, dense)
        rows, columns = self.size.over(4)
        return masks[:, :, :rows, :columns], iou

    def completed(self, part: Tensor, square: Tensor) -> Tensor:
        """A map of the square, (B, 256, S/16, S/16), whose top left is `part`.

        SAM's decoder looks at padding, too: without it, it finds other masks.
        """
        rows, columns = self.size.over(PATCH)
        whole = square.expand(len(part), -1, -1, -1).clone()
        whole[:, :, :rows, :columns] = part
        return whole


def build_sam(state_dict: Mapping[str, Tensor], image_size: int | Frame = 1024) -> Sam:
    """Build the model from a checkpoint's state dict, strictly, ready for inference.

    Its architecture is that of the weights.

    Raises:
        RuntimeError: a key is missing, unexpected or of another shape. `checkpoint.py` checks
            that first, with a message for users.
    """
    sam = Sam(image_size, architecture_of(state_dict))
    sam.load_state_dict(state_dict, strict=True)
    sam.eval().requires_grad_(False)
    if not sam.size.is_square:
        sam.padding = _encode_padding(sam.image_encoder, sam.size)
    return sam


def _encode_padding(encoder: TinyViT, size: Frame) -> Tensor:
    """Embedding of a square of padding alone; blocks take what they need of it."""
    found: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        found[module] = inputs[0]

    blocks = [module for module in encoder.modules() if isinstance(module, TinyViTBlock)]
    layers = [layer for block in blocks for layer in (block, block.local_conv)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    embedding: Tensor = encoder(torch.zeros(1, 3, size.side, size.side))
    for hook in hooks:
        hook.remove()
    if min(size.computed) < size.side:
        for block in blocks:
            block.beyond = Beyond.cut(found[block], found[block.local_conv], size, block.window)
    return embedding


@cache
def expected_entries(architecture: Architecture = MOBILESAM) -> Mapping[str, Tensor]:
    """Names, shapes and types of all entries, MobileSAM's 439, as tensors without content.

    The model is built on the CPU, in a quarter of a second: on torch's meta device, `nn.Embedding`
    imports torch's compiler, which takes ten times as long.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        entries = Sam(architecture=architecture).state_dict()
    return {name: value.to("meta") for name, value in entries.items()}
