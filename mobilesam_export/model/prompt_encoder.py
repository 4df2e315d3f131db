"""SAM's prompt encoder: points, boxes and a mask -> sparse tokens and a dense map.

Architecture: Segment Anything (Kirillov et al., 2023, arXiv:2304.02643), section "Prompt encoder".
Coordinates are x, y in pixels of the square input of side S.
"""

import math

import torch
from torch import Tensor, nn

from mobilesam_export.model.tiny_vit import EMBEDDING_WIDTH, LayerNorm2d


class PositionEmbeddingRandom(nn.Module):
    """Fourier features of positions in [0, 1], by a random matrix stored in the checkpoint."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "positional_encoding_gaussian_matrix", torch.zeros(2, EMBEDDING_WIDTH // 2)
        )

    def forward(self, positions: Tensor) -> Tensor:
        """(..., 2) x and y in [0, 1] -> (..., 256)."""
        angles = 2 * math.pi * ((2 * positions - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, side: int) -> Tensor:
        """Features of the centres of a side x side grid: (1, 256, side, side)."""
        device = self.positional_encoding_gaussian_matrix.device
        centers = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        return self(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    """B prompts on one image -> sparse (B, tokens, 256) and dense (B, 256, S/16, S/16)."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.embedding_side = image_size // 16
        self.pe_layer = PositionEmbeddingRandom()
        # Background point, foreground point, top-left corner, bottom-right corner.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, EMBEDDING_WIDTH) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, EMBEDDING_WIDTH)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, EMBEDDING_WIDTH, 1),
        )
        self.no_mask_embed = nn.Embedding(1, EMBEDDING_WIDTH)

    def image_pe(self) -> Tensor:
        """Positional features of the image embedding: (1, 256, S/16, S/16)."""
        return self.pe_layer.grid(self.embedding_side)

    def point_tables(self) -> Tensor:
        """(4, 256), the learned part of a token by label: 0, 1, 2 (top left), 3 (bottom right)."""
        return torch.cat([table.get_parameter("weight") for table in self.point_embeddings])

    def forward(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        box: Tensor | None,
        mask_input: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Encode B prompts of one kind; arguments that the kind does not use are None.

        Args:
            point_coords: (B, N, 2) float32.
            point_labels: (B, N), 1 foreground, 0 background.
            box: (B, 4) float32, x0, y0, x1, y1.
            mask_input: (B, 1, S/4, S/4) float32 logits.
        """
        prompt = next((x for x in (point_coords, box, mask_input) if x is not None), None)
        batch = 1 if prompt is None else len(prompt)
        sparse = torch.zeros(batch, 0, EMBEDDING_WIDTH, device=self.no_mask_embed.weight.device)
        if point_coords is not None and point_labels is not None:
            sparse = self._positions(point_coords) + self.point_tables()[point_labels.long()]
            if box is None:  # SAM was trained with one padding token on prompts without a box
                padding = self.not_a_point_embed.weight.expand(batch, 1, -1)
                sparse = torch.cat([sparse, padding], dim=1)
        if box is not None:
            corners = self._positions(box.reshape(-1, 2, 2)) + self.point_tables()[2:]
            sparse = torch.cat([sparse, corners], dim=1)
        if mask_input is not None:
            return sparse, self.mask_downscaling(mask_input)
        side = self.embedding_side
        return sparse, self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(batch, -1, side, side)

    def _positions(self, coords: Tensor) -> Tensor:
        return self.pe_layer((coords + 0.5) / self.image_size)
