"""What verification finds of `decoder_batch` and `decoder_prepared`; see `sets`, `prepared`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SetError:
    """How the answer to one prompt differs from the reference's, on the reference's embedding.

    Of `decoder_batch`, the prompt is one among the sets of a call.
    """

    image: str
    prompt: str
    logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float
