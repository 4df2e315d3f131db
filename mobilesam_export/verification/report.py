"""What verification finds: how each answer differs from the reference, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.set_error import SetError
from mobilesam_export.verification.square import SquareAgreement
from mobilesam_export.verification.status import Status


@dataclass(frozen=True)
class EmbeddingError:
    """How one image's embedding differs from the reference."""

    image: str
    max_abs_error: float
    psnr_db: float
    cosine: float


@dataclass(frozen=True)
class PromptError:
    """How the answer to one prompt differs from the reference, embedding included.

    Attributes:
        image: name of the case.
        prompt: its kind.
        logits_max_abs_error: over all masks.
        decoder_logits_max_abs_error: of the decoder alone, on the reference's embedding.
        iou_max_abs_error: of the predicted IoU.
        mask_iou: of the chosen mask at the image's size. Where a tie is flipped, of the mask that
            the file has chosen and the same one of the reference.
        boundary_iou: of the same two masks, see `metrics.boundary_iou`.
        best_mask_changed: whether the file has chosen another mask than the reference.
        tie_flipped: whether it has, and the reference rates its own two masks nearly the same
            (`CLEAR`), so that rounding alone decides between them.
    """

    image: str
    prompt: str
    logits_max_abs_error: float
    decoder_logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float
    boundary_iou: float
    best_mask_changed: bool
    tie_flipped: bool = False


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`, as it stands in the manifest.

    Attributes:
        status: one of three.
        reason: why it is unverified; empty otherwise.
        runtime: what ran the files.
        note: what must be known of that runtime; see `Session`.
        failures: every limit that was broken, in words.
        embeddings: by image; none of files that give no embedding.
        prompts: by image and prompt.
        logits_spread: what errors of logits are judged in units of, see `cases.logits_spread`; 0
            where nothing was run.
        sets: of `decoder_batch`, by image and prompt.
        prepared: of `decoder_prepared`, by image and prompt without a mask.
        largest_float16: name and value of the largest float16 activation that was seen.
        float16: the same graphs in pessimistic float16, where chips compute in float16.
        square: of a rectangle, how PyTorch's masks there agree with those of the square.
        first_wrong: the first tensor that cannot be right in any network, if the files failed and
            there is one; see `diagnosis`.
    """

    status: Status
    reason: str = ""
    runtime: str = ""
    note: str = ""
    failures: tuple[str, ...] = ()
    embeddings: tuple[EmbeddingError, ...] = ()
    prompts: tuple[PromptError, ...] = ()
    logits_spread: float = 0.0
    sets: tuple[SetError, ...] = ()
    prepared: tuple[SetError, ...] = ()
    largest_float16: tuple[str, float] = ("", 0.0)
    float16: Float16 | None = None
    square: SquareAgreement | None = None
    first_wrong: str = ""

    def failing(self, failures: Sequence[str]) -> "Report":
        """The same, as failed where there are more broken limits, in words."""
        status = Status.FAILED if failures else self.status
        return replace(self, status=status, failures=(*self.failures, *failures))

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity (as PSNR without any difference) and no NaN: null."""
        return {key: _finite(value) for key, value in asdict(self).items()}

    def summary(self) -> str:
        """One line for people."""
        if self.status is Status.UNVERIFIED:
            return f"unverified: {self.reason}"
        changed, ties = (
            sum(getattr(p, name) for p in self.prompts)
            for name in ("best_mask_changed", "tie_flipped")
        )
        psnr = min((e.psnr_db for e in self.embeddings), default=None)
        figures = ("" if psnr is None else f"embedding PSNR {psnr:.1f} dB, ") + (
            f"logits {max(p.logits_max_abs_error for p in self.prompts):.1e}, "
            f"mask IoU {min(p.mask_iou for p in self.prompts):.4f}, "
            f"boundary IoU {min(p.boundary_iou for p in self.prompts):.4f}, "
            f"{changed} best masks changed{f', {ties} of them ties' if ties else ''}; "
            f"worst of {len({p.image for p in self.prompts})} images, {len(self.prompts)} prompts"
        )
        for file, errors in (("decoder_batch", self.sets), ("decoder_prepared", self.prepared)):
            if errors:
                figures += f"; {file} {max(e.logits_max_abs_error for e in errors):.1e}"
        if self.float16 is not None:
            figures += f"; {self.float16.summary()}"
        if self.square is not None:
            figures += f"; {self.square.summary()}"
        if self.status is Status.PASSED:
            return f"verified ({self.runtime}): {figures}"
        blame = f"; it goes wrong at {self.first_wrong}" if self.first_wrong else ""
        return f"FAILED ({self.runtime}): {'; '.join(self.failures)}{blame} [{figures}]"


def unverified(reason: str) -> Report:
    """The report on files that were not run."""
    return Report(Status.UNVERIFIED, reason)


def _finite(value: Any) -> Any:  # noqa: ANN401 whatever asdict() makes
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
