"""The second phase: the student's masks are held to the teacher's, through the frozen decoder.

An embedding that is near the teacher's on average may still be far where masks end. So the last
steps of a run also ask both embeddings for the same prompts and compare the answers, as EdgeSAM
does (Zhou et al., 2023, arXiv:2312.06660: cross-entropy and Dice, up to 16 prompts of an image).
The loss of the embeddings stays beside that of the masks, as in TinySAM (Shu et al., 2023,
arXiv:2312.13789). The decoder is never trained.

Prompts are points inside the image, and boxes around what the teacher finds at them: images have no
labels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.distillation.arithmetic import autocast
from mobilesam_export.distillation.batches import Batch
from mobilesam_export.distillation.views import chance
from mobilesam_export.model import Sam

PROMPTS = 8  # points of an image in one step, and as many boxes
CELL = 4  # pixels for each logit of a mask


class MaskLoss:
    """The loss of a batch's masks.

    Args:
        teacher: whose decoder answers for the teacher's embedding; on the device of the run.
        student: the same for the student's embedding. Its encoder is not used.
    """

    def __init__(self, teacher: Sam, student: Sam) -> None:
        self._teacher, self._student = teacher, student

    def __call__(self, found: Tensor, expected: Tensor, batch: Batch, step: int) -> Tensor:
        """Mean over images and prompts.

        Args:
            found: (B, 256, S/16, S/16) of the student, with a gradient.
            expected: of that shape, of the teacher.
            batch: whose embeddings they are; prompts are drawn by its keys, inside its sizes.
            step: of the run; another one asks for other points.
        """
        # All prompts of all images in one call: a GPU waits for small ones.
        image = torch.arange(len(found), device=found.device).repeat_interleave(PROMPTS)
        points = torch.cat(
            [points_in(key, step, size) for key, size in zip(batch.keys, batch.sizes, strict=True)]
        ).to(found.device)
        student, teacher = found.float()[image], expected.float()[image]
        masks, index = self._teacher_masks(teacher, points)
        losses = mask_losses(self._asked(self._student, student, points)[0][index], masks)
        boxes, whole = boxes_around(masks)
        if not whole.any():
            return losses.mean()
        student, teacher, boxes = student[whole], teacher[whole], boxes[whole]
        with torch.no_grad():
            target = self._asked(self._teacher, teacher, boxes=boxes)[0][:, 0] > 0
        answer = self._asked(self._student, student, boxes=boxes)[0][:, 0]
        return losses.mean() + _mean_of_images(
            mask_losses(answer, target), image[whole], len(found)
        )

    @torch.no_grad()
    def _teacher_masks(self, expected: Tensor, points: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Of each point the best of masks 1..3 in the teacher's opinion, and where it lies."""
        logits, ious = self._asked(self._teacher, expected, points)
        index = (torch.arange(len(points), device=points.device), 1 + ious[:, 1:].argmax(dim=1))
        return logits[index] > 0, index

    @staticmethod
    def _asked(
        sam: Sam, embedding: Tensor, points: Tensor | None = None, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, 4, S/4, S/4) and predicted IoU (P, 4) of P embeddings' points or boxes."""
        coords = None if points is None else points[:, None]
        labels = None if coords is None else torch.ones_like(coords[..., 0])
        with autocast(embedding.device):
            logits, ious = sam.decode(embedding, coords, labels, boxes)
        return logits.float(), ious.float()


def points_in(key: str, step: int, size: tuple[int, int]) -> Tensor:
    """Points of an image, the same whenever and wherever its step is done.

    Args:
        key: of the image.
        step: of the run.
        size: its (height, width) in pixels.

    Returns:
        (PROMPTS, 2) float32 x and y of middles of pixels, without the half that SAM adds.
    """
    random = chance(key, step)
    rows, columns = (random.integers(0, side, PROMPTS) for side in size)
    return torch.from_numpy(np.stack([columns, rows], axis=1).astype(np.float32))


def boxes_around(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes around masks.

    Args:
        masks: (P, S/4, S/4) bool.

    Returns:
        (P, 4) float32 x0, y0, x1, y1 in pixels of the square, and (P,) bool: whether there is
        anything in the mask.
    """
    sides = []
    for axis in (1, 2):  # columns, then rows
        there = masks.any(dim=axis)
        first = there.float().argmax(dim=1)
        last = there.shape[1] - there.flip(1).float().argmax(dim=1)
        sides.append((first, last))
    (x0, x1), (y0, y1) = sides
    return CELL * torch.stack([x0, y0, x1, y1], dim=1).float(), masks.flatten(1).any(dim=1)


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Dice, of equal weight, of each mask.

    Args:
        logits: (P, h, w) float32.
        target: (P, h, w) bool.

    Returns:
        (P,) float32.
    """
    wanted = target.float()
    probability = logits.sigmoid()
    overlap = (probability * wanted).sum((1, 2))
    total = probability.sum((1, 2)) + wanted.sum((1, 2))
    dice = 1 - (2 * overlap + 1) / (total + 1)  # 1: so that nothing at all is no division by 0
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return entropy.mean((1, 2)) + dice


def _mean_of_images(losses: Tensor, image: Tensor, count: int) -> Tensor:
    """Of each image the mean of its losses, 0 without any; of these the mean.

    Args:
        losses: (P,).
        image: (P,) of each the image, 0 to count - 1.
        count: of images.
    """
    sums = losses.new_zeros(count).index_add(0, image, losses)
    found = losses.new_zeros(count).index_add(0, image, torch.ones_like(losses))
    return (sums / found.clamp_min(1)).mean()
