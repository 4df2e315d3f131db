"""Does `decoder_prepared` answer every prompt without a mask as PyTorch's decoder answers it?

On what `prepare` makes of the reference's embedding. Prompts with a mask are the decoder's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mobilesam_export.predictor import Predictor
from mobilesam_export.target import Recipe
from mobilesam_export.verification.cases import ImageCase, logits_spread
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.sets import broken_limits, set_error


def judged(
    report: Report, predictor: Predictor, cases: Sequence[ImageCase], recipe: Recipe
) -> Report:
    """Add what `prepare` and `decoder_prepared` do to the report on the other files.

    Args:
        report: of the other files.
        predictor: with all files.
        cases: with the reference's answers.
        recipe: of the files, whose tolerance holds.

    Raises:
        BackendError: a file cannot be run.
    """
    errors, failures = [], list[str]()
    spread = logits_spread(cases)
    with np.errstate(all="ignore"):  # NaN is a finding, not a warning
        for case in cases:
            image = predictor.with_prepared(case.embedded)
            for item in case.prompts:
                if item.prompt.mask_input is None:
                    outputs = predictor.decode(item.prompt, image)
                    errors.append(set_error(predictor, case, item, outputs))
                    failures += broken_limits(
                        errors[-1], "decoder_prepared", recipe.tolerance, spread
                    )
    return replace(report.failing(failures), prepared=tuple(errors))
