"""The decoder cut in two: what depends on the image alone, and what depends on the prompt.

`prepare` runs once per image. The first image that the decoder attends to is the embedding with
the dense part of the prompt, which is a constant where no mask is given: that image, its keys and
values for the tokens and its queries to the tokens are the same for all such prompts. Everything
behind them has met a token. Shapes as in `decoder_sets`, with Q = 1.
"""

import torch
from torch import Tensor, nn

from mobilesam_export.graphs.attention_sets import ImageMaps
from mobilesam_export.graphs.decoder_sets import SetsTransformer, row
from mobilesam_export.graphs.first_image import SharedMap, first_layers, no_mask
from mobilesam_export.graphs.positions import padding
from mobilesam_export.model import Sam, mask_decoder


class Prepare(nn.Module):
    """What the file `prepare` computes: embedding (1, C, H/16, W/16) -> prepared tensors.

    Returns:
        The first image (1, 1, P, C), its keys, values and queries (1, 1, P, D), float32.
    """

    no_mask: Tensor
    padding: Tensor | None

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.positions = sam.size.positions
        self.register_buffer("padding", padding(sam, 4))
        self.register_buffer("no_mask", no_mask(sam).float()[None, None])
        self.keys, self.values, self.queries = (
            SharedMap(sam, layer, pe) for layer, pe in first_layers(sam)
        )

    def forward(self, image_embeddings: Tensor) -> tuple[Tensor, ...]:
        embedding = image_embeddings.to(self.no_mask.dtype)
        embedding = embedding.reshape(1, 1, -1, self.positions).permute(0, 1, 3, 2)
        if self.padding is not None:
            embedding = torch.cat([embedding, self.padding], dim=2)
        maps = [part.of_all(embedding) for part in (self.keys, self.values, self.queries)]
        return tuple(x.to(torch.float32) for x in (embedding + self.no_mask, *maps))


class PreparedDecoder(SetsTransformer):
    """What the file `decoder_prepared` computes: N slots without a mask, as `SlotDecoder` does.

    Returns:
        `low_res_masks` (1, 4, H/4, W/4) and `iou_predictions` (1, 4), float32.
    """

    def __init__(self, sam: Sam, points: int) -> None:
        super().__init__(sam, points, 1)

    def forward(
        self,
        prepared_image: Tensor,
        prepared_keys: Tensor,
        prepared_values: Tensor,
        prepared_queries: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        dtype = self.image_pe.dtype
        token_pe, hidden = self.tokens(point_coords, point_labels)
        maps = ImageMaps(
            prepared_keys.to(dtype), prepared_values.to(dtype), prepared_queries.to(dtype)
        )
        found, tokens = self.attend(
            prepared_image.to(dtype), maps, token_pe.to(dtype), hidden.to(dtype)
        )
        masks = self.masks(found, tokens[:, :, 1:])
        iou = self.iou_head(row(tokens, 0)).reshape(1, mask_decoder.MASK_TOKENS)
        return masks.to(torch.float32), iou.to(torch.float32)
