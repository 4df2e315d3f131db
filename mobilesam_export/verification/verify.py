"""Do the files compute what PyTorch computes? A predictor and the reference cases -> report.

Three states: passed, failed, unverified with the reason. A file that was not run is never
called verified.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array
from mobilesam_export.metrics import boundary_iou, mask_iou, psnr_db
from mobilesam_export.predictor import Answer, EmbeddedImage, Predictor
from mobilesam_export.target import Tolerance
from mobilesam_export.verification import diagnosis, limits
from mobilesam_export.verification.cases import CLEAR, ImageCase, PromptCase, logits_spread
from mobilesam_export.verification.report import EmbeddingError, PromptError, Report
from mobilesam_export.verification.status import Status

# The collapse guard: other exports give nearly the same embedding for every image, or one
# without variance, and no error. Half and twice the reference is far from both and from noise.
GUARD_LOW, GUARD_HIGH = 0.5, 2.0
ROUNDING = 1e-9  # of a mean that is summed in another order


@dataclass
class _Findings:
    """What one pass over the cases collects."""

    embeddings: list[EmbeddingError] = field(default_factory=list)
    prompts: list[PromptError] = field(default_factory=list)
    found: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    largest: tuple[str, float] = ("", 0.0)


def verify(
    predictor: Predictor,
    cases: Sequence[ImageCase],
    tolerance: Tolerance,
    *,
    explained: bool = True,
) -> Report:
    """Run every case end to end (the decoder on the encoder's own embedding) and judge.

    Args:
        predictor: the files under test.
        cases: at least two images, from `cases.reference_cases` with the same contract.
        tolerance: limits for the worst case.
        explained: whether to look for the first wrong tensor of files that fail.

    Raises:
        BackendError: a file cannot be run.
    """
    findings, spread = _Findings(), logits_spread(cases)
    with np.errstate(all="ignore"):  # a broken file's NaN is a finding, not a warning
        _run(findings, predictor, cases)
        failures = (
            *_broken_limits(findings, tolerance, spread),
            *_low_mean(findings, tolerance),
            *_collapse(findings, cases),
        )
        first_wrong = diagnosis.where(predictor, cases) if failures and explained else ""
    return Report(
        status=Status.FAILED if failures else Status.PASSED,
        runtime=predictor.encoder.runtime,
        note=predictor.encoder.note,
        failures=failures,
        embeddings=tuple(findings.embeddings),
        prompts=tuple(findings.prompts),
        logits_spread=spread,
        largest_float16=findings.largest,
        first_wrong=first_wrong,
    )


def holds(predictor: Predictor, cases: Sequence[ImageCase], tolerance: Tolerance) -> bool:
    """Whether `verify` passes a predictor on these cases, told as soon as one image says no."""
    findings, spread = _Findings(), logits_spread(cases)
    count = sum(len(case.prompts) for case in cases)
    with np.errstate(all="ignore"):
        for case in cases:
            _run(findings, predictor, [case])
            lost = sum(1 - prompt.mask_iou for prompt in findings.prompts)
            if 1 - lost / count < tolerance.mean_mask_iou - ROUNDING:
                return False
            if _broken_limits(findings, tolerance, spread):
                return False
        return not (_low_mean(findings, tolerance) or _collapse(findings, cases))


def _run(findings: _Findings, predictor: Predictor, cases: Sequence[ImageCase]) -> None:
    for case in cases:
        image = predictor.embed(case.image)
        if not predictor.fused:
            findings.found[case.name] = np.asarray(image.embeddings, np.float32)
            findings.embeddings.append(_embedding_error(case, image.embeddings))
        for prompt_case in case.prompts:
            answer = predictor.predict(prompt_case.prompt, image)
            findings.prompts.append(_prompt_error(case, prompt_case, answer, predictor))
    findings.largest = _largest(predictor, cases[-1], image)


def _embedding_error(case: ImageCase, found: Array) -> EmbeddingError:
    a, b = found.astype(np.float64).ravel(), case.embeddings.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return EmbeddingError(
        image=case.name,
        max_abs_error=float(np.abs(a - b).max()),
        psnr_db=psnr_db(found, case.embeddings),
        cosine=float(a @ b) / norms if norms else 0.0,
    )


def _prompt_error(
    case: ImageCase, prompt_case: PromptCase, answer: Answer, predictor: Predictor
) -> PromptError:
    expected = prompt_case.answer
    alone = answer.outputs  # of a fused file there is no decoder alone
    if not predictor.fused:
        alone = predictor.decode(prompt_case.prompt, case.embedded)

    def largest_error(name: str, outputs: Mapping[str, Array] = answer.outputs) -> float:
        return float(np.abs(outputs[name].astype(np.float64) - expected.outputs[name]).max())

    changed, mask = answer.index != expected.index, expected.mask
    rated = expected.outputs["iou_predictions"][0]
    tie = changed and bool(rated[expected.index] - rated[answer.index] < CLEAR)
    if tie:
        mask = predictor.mask(expected.outputs, answer.index, case.embedded.size)
    return PromptError(
        image=case.name,
        prompt=prompt_case.name,
        logits_max_abs_error=largest_error("low_res_masks"),
        decoder_logits_max_abs_error=largest_error("low_res_masks", alone),
        iou_max_abs_error=largest_error("iou_predictions"),
        mask_iou=mask_iou(answer.mask, mask),
        boundary_iou=boundary_iou(answer.mask, mask),
        best_mask_changed=changed,
        tie_flipped=tie,
    )


def _largest(predictor: Predictor, case: ImageCase, image: EmbeddedImage) -> tuple[str, float]:
    """The largest activation for an image and its last prompt, where a runtime can tell."""
    contract, prompt = predictor.contract, case.prompts[-1].prompt
    asked = prompts.decoder_inputs(prompt, image.embeddings, image.size, contract)
    pairs = (
        (predictor.encoder, prompts.encoder_inputs(case.image, contract)),
        (predictor.decoder, asked),
    )
    seen = [session.largest(inputs) for session, inputs in pairs if session.largest is not None]
    # NaN counts as larger than any number.
    return max(seen, key=lambda item: (np.isnan(item[1]), item[1]), default=("", 0.0))


def _broken_limits(findings: _Findings, tolerance: Tolerance, spread: float) -> tuple[str, ...]:
    """Written so that NaN breaks every limit."""
    failures, logits = [], tolerance.logits_error * spread
    for e in findings.embeddings:
        if not e.psnr_db >= tolerance.embedding_psnr_db:
            limit = tolerance.embedding_psnr_db
            failures.append(f"{e.image}: embedding PSNR {e.psnr_db:.1f} dB, expected >= {limit:g}")
    failures += [text for error in findings.prompts for text in _wrong(error, tolerance, logits)]
    name, value = findings.largest
    if not value <= diagnosis.FLOAT16_MAX:
        failures.append(
            f"{name} reaches {value:.3g}, which overflows float16 ({diagnosis.FLOAT16_MAX:g})"
        )
    return tuple(failures)


def _wrong(found: PromptError, tolerance: Tolerance, logits: float) -> Iterator[str]:
    """What an answer breaks; `logits`: the largest error of one."""
    return limits.broken(
        f"{found.image}, {found.prompt}",
        errors=(
            ("logits", found.logits_max_abs_error, logits),
            ("logits of the decoder alone", found.decoder_logits_max_abs_error, logits),
            ("predicted IoU", found.iou_max_abs_error, tolerance.iou_max_abs_error),
        ),
        shares=(
            ("mask IoU", found.mask_iou, tolerance.mask_iou),
            ("boundary IoU", found.boundary_iou, tolerance.boundary_iou),
        ),
    )


def _low_mean(findings: _Findings, tolerance: Tolerance) -> tuple[str, ...]:
    mean, least = np.mean([p.mask_iou for p in findings.prompts]), tolerance.mean_mask_iou
    return () if mean >= least else (f"mean mask IoU {mean:.4f}, expected >= {least:g}",)


def _collapse(findings: _Findings, cases: Sequence[ImageCase]) -> tuple[str, ...]:
    failures: list[str] = []
    if not findings.found:
        return ()  # a fused file is held to masks only, and those of other images are others
    for case in cases:
        found = findings.found[case.name]
        if not np.isfinite(found).all():
            failures.append(f"{case.name}: the embedding has NaN or infinity")
        elif not GUARD_LOW <= found.std() / case.embeddings.std() <= GUARD_HIGH:
            failures.append(
                f"{case.name}: the embedding's standard deviation is {found.std():.3g}, "
                f"PyTorch's {case.embeddings.std():.3g}"
            )
    first, second = cases[0], cases[1]
    expected = float(np.abs(first.embeddings - second.embeddings).mean())
    distance = float(np.abs(findings.found[first.name] - findings.found[second.name]).mean())
    if not distance >= GUARD_LOW * expected:
        failures.append(
            f"two different images give embeddings {distance:.3g} apart, "
            f"PyTorch's are {expected:.3g} apart"
        )
    return tuple(failures)
