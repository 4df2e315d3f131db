"""How far a student's embedding is from the teacher's.

Shapes: B images, C = 256 channels, H x W positions. All losses are means, so that their size does
not depend on the image size or the batch.
"""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor


def embedding_loss(found: Tensor, expected: Tensor, kind: str) -> Tensor:
    """The loss of a batch.

    Args:
        found: (B, C, H, W) of the student; computed with in float32 whatever its type.
        expected: (B, C, H, W) of the teacher.
        kind: "mse" (MobileSAM), "huber" (NanoSAM; linear from a difference of 1 on), "cosine"
            (one minus the cosine of each position's channels) or "mse+cosine" (EfficientSAM3).

    Returns:
        A scalar, float32.
    """
    found, expected = found.float(), expected.float()
    total = found.new_zeros(())
    for name in kind.split("+"):
        total = total + PARTS[name](found, expected)
    return total


def cosine_loss(found: Tensor, expected: Tensor) -> Tensor:
    """One minus the mean cosine between the channels at each position."""
    return 1 - F.cosine_similarity(found, expected, dim=1).mean()


PARTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "huber": F.huber_loss,
    "cosine": cosine_loss,
}
