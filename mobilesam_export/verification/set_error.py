"""What verification finds of `decoder_batch`; see `sets`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SetError:
    """How the answer to one prompt among the sets of a call differs from the reference's.

    The call is on the reference's embedding.
    """

    image: str
    prompt: str
    logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float
