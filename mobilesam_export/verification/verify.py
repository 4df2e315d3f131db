"""Do the files compute what PyTorch computes? Two sessions and the reference cases -> report.

Three states: passed, failed, unverified with the reason. A file that was not run is never
called verified.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.metrics import mask_iou, psnr_db
from mobilesam_export.session import Session
from mobilesam_export.target import Tolerance
from mobilesam_export.verification import diagnosis
from mobilesam_export.verification.cases import PictureCase, PromptCase

# The collapse guard: other exports give nearly the same embedding for every picture, or one
# without variance, and no error. Half and twice the reference is far from both and from noise.
GUARD_LOW, GUARD_HIGH = 0.5, 2.0


class Status(StrEnum):
    """What is known about a bundle."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class EmbeddingError:
    """How one picture's embedding differs from the reference."""

    picture: str
    max_abs_error: float
    psnr_db: float
    cosine: float


@dataclass(frozen=True)
class PromptError:
    """How the answer to one prompt differs from the reference, embedding included.

    `decoder_logits_max_abs_error` is of the decoder alone, on the reference's embedding.
    """

    picture: str
    prompt: str
    logits_max_abs_error: float
    decoder_logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float
    best_mask_changed: bool


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`, as it stands in the manifest.

    Attributes:
        status: one of three.
        reason: why it is unverified; empty otherwise.
        runtime: what ran the files.
        note: what must be known of that runtime; see `Session`.
        failures: every limit that was broken, in words.
        embeddings: by picture.
        prompts: by picture and prompt.
        largest_float16: name and value of the largest float16 activation that was seen.
        first_wrong: the first tensor that cannot be right in any network, if the files failed and
            there is one; see `collapse`.
    """

    status: Status
    reason: str = ""
    runtime: str = ""
    note: str = ""
    failures: tuple[str, ...] = ()
    embeddings: tuple[EmbeddingError, ...] = ()
    prompts: tuple[PromptError, ...] = ()
    largest_float16: tuple[str, float] = ("", 0.0)
    first_wrong: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity (as PSNR without any difference) and no NaN: null."""
        return {key: _finite(value) for key, value in asdict(self).items()}

    def summary(self) -> str:
        """One line for people."""
        if self.status is Status.UNVERIFIED:
            return f"unverified: {self.reason}"
        figures = (
            f"embedding PSNR {min(e.psnr_db for e in self.embeddings):.1f} dB, "
            f"logits {max(p.logits_max_abs_error for p in self.prompts):.1e}, "
            f"mask IoU {min(p.mask_iou for p in self.prompts):.4f}, "
            f"{sum(p.best_mask_changed for p in self.prompts)} best masks changed; "
            f"worst of {len(self.embeddings)} pictures, {len(self.prompts)} prompts"
        )
        if self.status is Status.PASSED:
            return f"verified ({self.runtime}): {figures}"
        blame = f"; it goes wrong at {self.first_wrong}" if self.first_wrong else ""
        return f"FAILED ({self.runtime}): {'; '.join(self.failures)}{blame} [{figures}]"


def unverified(reason: str) -> Report:
    """The report on files that were not run."""
    return Report(Status.UNVERIFIED, reason)


@dataclass
class _Findings:
    """What one pass over the cases collects."""

    embeddings: list[EmbeddingError] = field(default_factory=list)
    prompts: list[PromptError] = field(default_factory=list)
    found: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    largest: tuple[str, float] = ("", 0.0)


def verify(
    sessions: Sequence[Session],
    cases: Sequence[PictureCase],
    contract: Contract,
    tolerance: Tolerance,
) -> Report:
    """Run every case end to end (the decoder on the encoder's own embedding) and judge.

    Args:
        sessions: encoder and decoder under test.
        cases: at least two pictures, from `cases.reference_cases`.
        contract: of the sessions and of the cases.
        tolerance: limits for the worst case.

    Raises:
        BackendError: a session fails to run.
    """
    findings = _Findings()
    with np.errstate(all="ignore"):  # a broken file's NaN is a finding, not a warning
        _run(findings, sessions, cases, contract)
        failures = (*_broken_limits(findings, tolerance), *_collapse(findings, cases))
        first_wrong = _first_wrong(sessions, cases, contract) if failures else ""
    return Report(
        status=Status.FAILED if failures else Status.PASSED,
        runtime=sessions[0].runtime,
        note=sessions[0].note,
        failures=failures,
        embeddings=tuple(findings.embeddings),
        prompts=tuple(findings.prompts),
        largest_float16=findings.largest,
        first_wrong=first_wrong,
    )


def _first_wrong(
    sessions: Sequence[Session], cases: Sequence[PictureCase], contract: Contract
) -> str:
    """Look into the encoder, and if nothing is wrong there into the decoder."""
    encoder, decoder = sessions
    inputs = [prompts.encoder_inputs(case.picture, contract) for case in cases[:2]]
    prompt = cases[0].prompts[0].prompt
    size = prompts.picture_size(cases[0].picture)
    asked = [prompts.decoder_inputs(prompt, case.embeddings, size, contract) for case in cases[:2]]
    for name, session, given in (("encoder", encoder, inputs), ("decoder", decoder, asked)):
        if session.observe is not None:
            found = diagnosis.first_wrong(session.observe, given[0], given[1])
            if found:
                return f"{name}: {found}"
    return ""


def _run(
    findings: _Findings,
    sessions: Sequence[Session],
    cases: Sequence[PictureCase],
    contract: Contract,
) -> None:
    encoder, decoder = sessions
    for case in cases:
        inputs = prompts.encoder_inputs(case.picture, contract)
        embeddings = encoder.run(inputs)["image_embeddings"]
        findings.found[case.name] = np.asarray(embeddings, np.float32)
        findings.embeddings.append(_embedding_error(case, embeddings))
        for prompt_case in case.prompts:
            size = prompts.picture_size(case.picture)
            asked = prompts.decoder_inputs(prompt_case.prompt, embeddings, size, contract)
            outputs = decoder.run(asked)
            alone = decoder.run({**asked, "image_embeddings": case.embeddings})
            findings.prompts.append(_prompt_error(case, prompt_case, outputs, alone, contract))
    findings.largest = _largest(sessions, [inputs, asked])


def _finite(value: Any) -> Any:  # noqa: ANN401 whatever asdict() makes
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _embedding_error(case: PictureCase, found: Array) -> EmbeddingError:
    a, b = found.astype(np.float64).ravel(), case.embeddings.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return EmbeddingError(
        picture=case.name,
        max_abs_error=float(np.abs(a - b).max()),
        psnr_db=psnr_db(found, case.embeddings),
        cosine=float(a @ b) / norms if norms else 0.0,
    )


def _prompt_error(
    case: PictureCase,
    prompt_case: PromptCase,
    outputs: dict[str, Array],
    alone: dict[str, Array],
    contract: Contract,
) -> PromptError:
    expected = prompt_case.outputs
    prompt, size = prompt_case.prompt, prompts.picture_size(case.picture)
    changed = False
    if not contract.dynamic:
        best = [prompts.chosen_index(prompt, o["iou_predictions"]) for o in (outputs, expected)]
        changed = best[0] != best[1]
    mask = prompts.final_mask(prompt, outputs, size, contract)

    def largest_error(name: str, found: dict[str, Array] = outputs) -> float:
        return float(np.abs(found[name].astype(np.float64) - expected[name]).max())

    return PromptError(
        picture=case.name,
        prompt=prompt_case.name,
        logits_max_abs_error=largest_error("low_res_masks"),
        decoder_logits_max_abs_error=largest_error("low_res_masks", alone),
        iou_max_abs_error=largest_error("iou_predictions"),
        mask_iou=mask_iou(mask, prompt_case.mask),
        best_mask_changed=changed,
    )


def _largest(sessions: Sequence[Session], inputs: list[dict[str, Array]]) -> tuple[str, float]:
    pairs = zip(sessions, inputs, strict=True)
    seen = [s.largest(values) for s, values in pairs if s.largest is not None]
    # NaN counts as larger than any number.
    return max(seen, key=lambda item: (np.isnan(item[1]), item[1]), default=("", 0.0))


def _broken_limits(findings: _Findings, tolerance: Tolerance) -> tuple[str, ...]:
    """Written so that NaN breaks every limit."""
    failures = []
    for e in findings.embeddings:
        if not e.psnr_db >= tolerance.embedding_psnr_db:
            limit = tolerance.embedding_psnr_db
            failures.append(
                f"{e.picture}: embedding PSNR {e.psnr_db:.1f} dB, expected >= {limit:g}"
            )
    for p in findings.prompts:
        where = f"{p.picture}, {p.prompt}"
        for what, error, most in (
            ("logits", p.logits_max_abs_error, tolerance.logits_max_abs_error),
            (
                "logits of the decoder alone",
                p.decoder_logits_max_abs_error,
                tolerance.logits_max_abs_error,
            ),
            ("predicted IoU", p.iou_max_abs_error, tolerance.iou_max_abs_error),
        ):
            if not error <= most:
                failures.append(f"{where}: {what} {error:.2g} off, expected <= {most:g}")
        if not p.mask_iou >= tolerance.mask_iou:
            limit = tolerance.mask_iou
            failures.append(f"{where}: mask IoU {p.mask_iou:.4f}, expected >= {limit:g}")
    name, value = findings.largest
    if not value <= diagnosis.FLOAT16_MAX:
        failures.append(
            f"{name} reaches {value:.3g}, which overflows float16 ({diagnosis.FLOAT16_MAX:g})"
        )
    return tuple(failures)


def _collapse(findings: _Findings, cases: Sequence[PictureCase]) -> tuple[str, ...]:
    failures = []
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
            f"two different pictures give embeddings {distance:.3g} apart, "
            f"PyTorch's are {expected:.3g} apart"
        )
    return tuple(failures)
