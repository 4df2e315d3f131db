"""SAM's training losses: 20 focal + dice, the best of three for one click, and the IoU head.

Weights 20 : 1 : 1 and the rest from Segment Anything (Kirillov et al., 2023, arXiv:2304.02643,
appendix A, "Training"); half a cross-entropy is added because it makes small models learn
faster. Shapes: B prompts, K masks each, low resolution h x w.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMA, ALPHA = 2.0, 0.25  # of the focal loss (Lin et al., 2017, arXiv:1708.02002)


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Loss of each mask: logits (B, K, h, w), target (B, h, w) of 0 and 1 -> (B, K)."""
    wanted = target[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    wrong = torch.where(wanted > 0.5, 1 - probability, probability)
    weight = torch.where(wanted > 0.5, ALPHA, 1 - ALPHA)
    focal = (weight * wrong**GAMMA * entropy).mean((2, 3))
    overlap = (probability * wanted).sum((2, 3))
    total = probability.sum((2, 3)) + wanted.sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return 20 * focal + dice + 0.5 * entropy.mean((2, 3))


def mask_ious(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of each thresholded mask with the target: (B, K)."""
    found, wanted = logits > 0, target[:, None] > 0.5
    union = (found | wanted).sum((2, 3)).clamp(min=1)
    return (found & wanted).sum((2, 3)) / union


def prompt_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor) -> Tensor:
    """Loss of B prompts whose K masks may each be the answer.

    Args:
        logits: (B, K, h, w) float32; only the best of the K learns, so that an ambiguous click
            may have several answers.
        predicted_iou: (B, K) float32, of the IoU head.
        target: (B, h, w) float32 of 0 and 1.
    """
    best = mask_losses(logits, target).min(dim=1).values
    error = F.mse_loss(predicted_iou, mask_ious(logits.detach(), target))
    return best.mean() + error
