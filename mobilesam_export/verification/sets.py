"""Does `decoder_batch` answer each of its sets as PyTorch's decoder answers that prompt alone?

All prompts of an image are asked together, on the reference's embedding, with an empty set behind
them at least.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mobilesam_export import prompts
from mobilesam_export.contract import Array
from mobilesam_export.metrics import mask_iou
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import Recipe, Tolerance
from mobilesam_export.verification import limits
from mobilesam_export.verification.cases import ImageCase, PromptCase, logits_spread
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.set_error import SetError


def judged(
    report: Report,
    predictor: Predictor,
    batch: Session,
    cases: Sequence[ImageCase],
    recipe: Recipe,
) -> Report:
    """Add what `decoder_batch` does to the report on the other files.

    Args:
        report: of `verify`.
        predictor: with the other files.
        batch: `decoder_batch`, the file under test.
        cases: with the reference's answers.
        recipe: of the files, whose tolerance holds.

    Raises:
        BackendError: the file cannot be run.
    """
    errors: list[SetError] = []
    failures: list[str] = []
    spread = logits_spread(cases)
    with np.errstate(all="ignore"):  # NaN is a finding, not a warning
        for case in cases:
            for part in _calls(case, predictor.contract.sets):
                outputs = batch.run(_inputs(predictor, case, part))
                if not all(np.isfinite(value[len(part) :]).all() for value in outputs.values()):
                    failures.append(f"{case.name}: an empty set of decoder_batch is not finite")
                for place, item in enumerate(part):
                    single = {name: value[place : place + 1] for name, value in outputs.items()}
                    errors.append(set_error(predictor, case, item, single))
                    failures += broken_limits(errors[-1], "decoder_batch", recipe.tolerance, spread)
    return replace(report.failing(failures), sets=tuple(errors))


def _calls(case: ImageCase, sets: int) -> list[Sequence[PromptCase]]:
    """The prompts by call; the last call has an empty set, unless there is only one."""
    calls = [case.prompts[i : i + sets] for i in range(0, len(case.prompts), sets)]
    return [*calls, ()] if len(calls[-1]) == sets else [*calls]


def _inputs(predictor: Predictor, case: ImageCase, part: Sequence[PromptCase]) -> dict[str, Array]:
    image, asked = case.embedded, [item.prompt for item in part]
    return prompts.batch_inputs(asked, image.embeddings, image.size, predictor.contract)


def set_error(
    predictor: Predictor, case: ImageCase, item: PromptCase, outputs: dict[str, Array]
) -> SetError:
    """How a further file's answer to one prompt differs from the reference's."""
    expected = item.answer

    def largest(name: str) -> float:
        return float(np.abs(outputs[name].astype(np.float64) - expected.outputs[name]).max())

    answer = predictor.answer(item.prompt, outputs, case.embedded.size)
    return SetError(
        image=case.name,
        prompt=item.name,
        logits_max_abs_error=largest("low_res_masks"),
        iou_max_abs_error=largest("iou_predictions"),
        mask_iou=mask_iou(answer.mask, expected.mask),
    )


def broken_limits(error: SetError, file: str, tolerance: Tolerance, spread: float) -> Iterator[str]:
    """What an answer of a file breaks."""
    return limits.broken(
        f"{error.image}, {error.prompt} in {file}",
        errors=(
            ("logits", error.logits_max_abs_error, tolerance.logits_error * spread),
            ("predicted IoU", error.iou_max_abs_error, tolerance.iou_max_abs_error),
        ),
        shares=(("mask IoU", error.mask_iou, tolerance.mask_iou),),
    )
