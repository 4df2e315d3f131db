"""What is found out about files that fail: all of it, unless it is a trial."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mobilesam_export.backends import get_backend, reference
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.graphs import ranges, split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.proof.files import Files, verify_files
from mobilesam_export.verification import cases
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

Verified = Callable[..., Report]


@pytest.fixture
def verified(coreml_bundle: Path, sam: Sam) -> Verified:
    """Of float16 files, given the embedding's least PSNR in dB."""
    opened = open_bundle(coreml_bundle)
    expected = cases.reference_cases(reference.load(sam, opened.contract))[:2]
    few = tuple(replace(case, prompts=case.prompts[:1]) for case in expected)
    graphs = split_graphs(ranges.fold_ranges(sam, opened.exponents), opened.contract)

    def run(psnr_db: float, *, explained: bool) -> Report:
        tolerance = replace(opened.recipe.tolerance, embedding_psnr_db=psnr_db)
        recipe = replace(opened.recipe, tolerance=tolerance)
        files = Files(coreml_bundle, get_backend("coreml"), recipe, opened.contract)
        return verify_files(files, graphs, few, explained=explained)

    return run


def test_a_trial_that_fails_is_not_computed_in_pessimistic_float16(verified: Verified) -> None:
    report = verified(200.0, explained=False)
    assert (report.status, report.float16) == (Status.FAILED, None)


def test_a_trial_that_holds_is(verified: Verified) -> None:
    report = verified(20.0, explained=False)
    assert report.status is Status.PASSED
    assert report.float16 is not None


def test_all_is_said_about_files_that_fail_in_the_end(verified: Verified) -> None:
    report = verified(200.0, explained=True)
    assert report.status is Status.FAILED
    assert report.float16 is not None
