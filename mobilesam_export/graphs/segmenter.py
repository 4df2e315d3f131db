"""Encoder and decoder as one graph, for clients that ask with image and prompt at once."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract import NOT_ASKED
from mobilesam_export.graphs.decoder import SlotDecoder, one_hot
from mobilesam_export.model import Sam


class QueryDecoder(SlotDecoder):
    """N slots without a mask prompt, for clients that show the mask of the largest predicted IoU.

    So that this is the mask that SAM shows, the others have `NOT_ASKED` in its place: mask 0 where
    the prompt is one click, and masks 1..3 for every other prompt.

    Returns:
        `low_res_masks` (1, 4, H/4, W/4) and `iou_predictions` (1, 4), float32.
    """

    uses: Tensor
    first: Tensor

    def __init__(self, sam: Sam, points: int) -> None:
        super().__init__(sam, points)
        # Of the labels 0 to 3: a corner of a box counts as two clicks, which are no single one.
        self.register_buffer("uses", torch.tensor([1.0, 1, 2, 2]))
        self.register_buffer("first", torch.tensor([[1.0, 0, 0, 0]]))

    def forward(  # type: ignore[override]
        self, image_embeddings: Tensor, point_coords: Tensor, point_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        prompt, mask = self.tokens(point_coords, point_labels)
        masks, iou = self.transformer(image_embeddings, prompt, self.mask_prompt.no_mask, mask)
        used = (one_hot(point_labels, self.points.codes) * self.uses).sum((1, 2)).reshape(1, 1)
        single = F.relu(1 - (used - 1).abs())  # 1 or 0
        asked = single + self.first - 2 * single * self.first  # one of both: (1, 4)
        return masks, (iou * asked + NOT_ASKED * (1 - asked)).to(torch.float32)


class Segmenter(nn.Module):
    """What the file `segmenter` computes: both halves, with an axis for queries.

    Args:
        encoder: (1, 3, H, W) float32 RGB 0..1 -> embedding.
        decoder: of embedding, points and labels.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(
        self, batched_images: Tensor, batched_points: Tensor, batched_point_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(1, 3, H, W), (1, 1, N, 2), (1, 1, N) -> (1, 1, 4, H/4, W/4) and (1, 1, 4)."""
        embeddings = self.encoder(batched_images)
        masks, scores = self.decoder(embeddings, batched_points[0], batched_point_labels[0])
        return masks[None], scores[None]
