"""What a simulation has to hold, so that files hold the tolerance."""

from collections.abc import Sequence

import pytest

from mobilesam_export.fitting.simulation import tightened
from mobilesam_export.target import Tolerance
from mobilesam_export.verification.report import EmbeddingError, PromptError, Report
from mobilesam_export.verification.status import Status


def report(mask_iou: Sequence[float], psnr_db: float) -> Report:
    prompts = [PromptError("", "", 0, 0, 0, iou, 1, False, False) for iou in mask_iou]
    embeddings = (EmbeddingError("", 0, psnr_db, 1),)
    return Report(Status.FAILED, embeddings=embeddings, prompts=tuple(prompts))


def test_a_simulation_is_held_to_what_files_lose_beyond_it() -> None:
    """Files lose twice as much of the mean and 3 dB of the embedding; their worst mask is right."""
    tolerance = Tolerance(50, 1, 1, mask_iou=0.9, mean_mask_iou=0.99)
    found = tightened(tolerance, report([0.99, 0.97], 51), report([0.96, 0.96], 48))
    assert found.mean_mask_iou == pytest.approx(0.995)
    assert found.embedding_psnr_db == pytest.approx(53)
    assert found.mask_iou == tolerance.mask_iou


@pytest.mark.parametrize(("simulated", "files"), [(0.9, 0.95), (1.0, float("nan"))])
def test_files_that_say_nothing_of_a_simulation_leave_it_as_it_is(
    simulated: float, files: float
) -> None:
    tolerance = Tolerance(0, 1, 1, mask_iou=0.97)
    assert tightened(tolerance, report([simulated], 9), report([files], 9)) == tolerance
