"""SAM's mask decoder, which MobileSAM keeps unchanged: embedding and prompt tokens -> masks.

Architecture: Segment Anything (Kirillov et al., 2023, arXiv:2304.02643), section "Mask decoder".
Shapes: B prompts on one image, T tokens, P = (S/16)**2 positions of the embedding, C = 256.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.model.tiny_vit import EMBEDDING_WIDTH, LayerNorm2d

HEADS = 8
MASK_TOKENS = 4  # token 0: the single-mask answer; 1..3: the multi-mask answers


class Attention(nn.Module):
    """Attention whose inner width may be smaller than the width of its inputs."""

    def __init__(self, inner_width: int = EMBEDDING_WIDTH) -> None:
        super().__init__()
        self.q_proj = nn.Linear(EMBEDDING_WIDTH, inner_width)
        self.k_proj = nn.Linear(EMBEDDING_WIDTH, inner_width)
        self.v_proj = nn.Linear(EMBEDDING_WIDTH, inner_width)
        self.out_proj = nn.Linear(inner_width, EMBEDDING_WIDTH)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # (B or 1, length, C)
        q, k, v = (_heads(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        y = F.scaled_dot_product_attention(q, k, v)  # (B, heads, length, inner / heads)
        return self.out_proj(y.transpose(1, 2).flatten(2))


def _heads(x: Tensor) -> Tensor:  # (B, length, inner) -> (B, heads, length, inner / heads)
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


class TransformerMlp(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(EMBEDDING_WIDTH, 2048)
        self.lin2 = nn.Linear(2048, EMBEDDING_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayAttentionBlock(nn.Module):
    """Tokens attend to themselves and the image, then the image attends to the tokens."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention()
        self.norm1 = nn.LayerNorm(EMBEDDING_WIDTH)
        self.cross_attn_token_to_image = Attention(EMBEDDING_WIDTH // 2)
        self.norm2 = nn.LayerNorm(EMBEDDING_WIDTH)
        self.mlp = TransformerMlp()
        self.norm3 = nn.LayerNorm(EMBEDDING_WIDTH)
        self.norm4 = nn.LayerNorm(EMBEDDING_WIDTH)
        self.cross_attn_image_to_token = Attention(EMBEDDING_WIDTH // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:  # the tokens are their own positional encoding, and have no residual yet
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        keys = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, keys, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(keys, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Two blocks, then a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayAttentionBlock(True), TwoWayAttentionBlock(False)])
        self.final_attn_token_to_image = Attention(EMBEDDING_WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(EMBEDDING_WIDTH)

    def forward(
        self, token_pe: Tensor, image: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:  # (B, T, C), (B, P, C), (1, P, C) -> (B, T, C), (B, P, C)
        tokens = token_pe
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image


class Mlp(nn.Module):
    """Three linear layers with ReLUs between."""

    def __init__(self, width_out: int) -> None:
        super().__init__()
        widths = (EMBEDDING_WIDTH, EMBEDDING_WIDTH, EMBEDDING_WIDTH, width_out)
        self.layers = nn.ModuleList(nn.Linear(widths[i], widths[i + 1]) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.layers[0](x))
        x = F.relu(self.layers[1](x))
        return self.layers[2](x)


class MaskDecoder(nn.Module):
    """Image embedding, its positions and a prompt -> four masks with their predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, EMBEDDING_WIDTH)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, EMBEDDING_WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING_WIDTH, 64, 2, 2),
            LayerNorm2d(64),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(32) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = Mlp(MASK_TOKENS)

    def forward(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict all four masks.

        Args:
            image_embeddings: (1, 256, S/16, S/16) float32, or one for each prompt.
            image_pe: positional features of the embedding, of the same shape.
            sparse: (B, tokens, 256) float32, from the prompt encoder.
            dense: (B, 256, S/16, S/16) float32, the mask prompt or "no mask".

        Returns:
            Logits (B, 4, S/4, S/4) and predicted IoU (B, 4), float32.
        """
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None]
        tokens = torch.cat([outputs.expand(len(sparse), -1, -1), sparse], dim=1)
        src = image_embeddings + dense
        image = src.flatten(2).transpose(1, 2)
        tokens, image = self.transformer(tokens, image, image_pe.flatten(2).transpose(1, 2))
        image = image.transpose(1, 2).reshape(src.shape)
        upscaled = self.output_upscaling(image)  # (B, 32, S/4, S/4)
        kernels = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (B, 4, 32)
        masks = torch.einsum("bkc,bchw->bkhw", kernels, upscaled)
        return masks, self.iou_prediction_head(tokens[:, 0])
