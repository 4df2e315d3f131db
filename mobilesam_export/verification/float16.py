"""What pessimistic float16 arithmetic makes of a graph, as it stands in a report. No torch.

`half` computes it. A file that holds its tolerance in the runtime of this machine alone is not
called verified where a chip computes in float16: runtimes on a PC are kinder than chips.
"""

import math
from dataclasses import dataclass

from mobilesam_export.target import Tolerance

# Images other than those of the verification bring larger values; between ten scenes the largest
# sum of squares of the demo weights varies by a factor of 2.
MIN_HEADROOM = 4.0
# The most that is asked of float16, as of coreml's. Files stored in float32 are held to more than
# it has digits for, also where chips compute them in float16 (tflite-gpu).
MOST_PSNR_DB, MOST_MASK_IOU = 60.0, 0.99
# As of the guard against collapsed embeddings in `verify`.
MIN_DISTANCE = 0.5


@dataclass(frozen=True)
class Float16:
    """The answers of both graphs in pessimistic float16, over all verification prompts.

    Attributes:
        embedding_psnr_db: least peak signal-to-noise ratio of the embedding against float32.
        mask_iou: least intersection over union of the final mask with float32's.
        distance: of the embeddings of two different images, mean absolute difference, in units of
            float32's; near 0 the embedding ignores the image.
        headroom: the factor by which everything could grow before anything computed, partial sums
            included, exceeds 65,504; below 1 something overflows.
        tensor: what would exceed it first, as "encoder: neck.1 layer_norm, sum of squares".
        floor: the factor by which everything could shrink before a whole tensor lies below
            float16's normal numbers, 2**-14.
        faintest: that tensor.
    """

    embedding_psnr_db: float
    mask_iou: float
    distance: float
    headroom: float
    tensor: str
    floor: float
    faintest: str

    def summary(self) -> str:
        """Part of a line for people."""
        return (
            f"pessimistic float16: PSNR {self.embedding_psnr_db:.1f} dB, mask IoU "
            f"{self.mask_iou:.4f}, headroom {self.headroom:.3g} at {self.tensor}"
        )

    def broken_limits(self, tolerance: Tolerance) -> tuple[str, ...]:
        """What is out of tolerance, in words; written so that NaN breaks every limit.

        Args:
            tolerance: of the recipe, as far as float16 can hold it.
        """
        psnr_db = min(tolerance.embedding_psnr_db, MOST_PSNR_DB)
        mask_iou = min(tolerance.mask_iou, MOST_MASK_IOU)
        failures = []
        for what, value, least in (
            ("embedding PSNR (dB)", self.embedding_psnr_db, psnr_db),
            ("mask IoU", self.mask_iou, mask_iou),
        ):
            if not value >= least:
                failures.append(
                    f"in pessimistic float16: {what} {value:.4g}, expected >= {least:g}"
                )
        if math.isnan(self.distance):
            failures.append("in pessimistic float16: the embedding has NaN or infinity")
        elif self.distance < MIN_DISTANCE:
            failures.append(
                f"in pessimistic float16: two different images give embeddings {self.distance:.3g} "
                "times as far apart as PyTorch's: the encoder ignores the image"
            )
        if not self.headroom >= MIN_HEADROOM:
            failures.append(
                f"in pessimistic float16: {self.tensor} has a headroom of {self.headroom:.3g} to "
                f"65,504, expected >= {MIN_HEADROOM:g}"
            )
        if not self.floor >= 1:
            failures.append(
                f"in pessimistic float16: {self.faintest} lies below the normal numbers, largest "
                f"value {self.floor:.3g} times 2**-14"
            )
        return tuple(failures)
