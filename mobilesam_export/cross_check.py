"""A runtime against this project's evaluator of its files: is the evaluator right about it?

Where the runtime is missing (Core ML is part of macOS), the evaluator is what verifies, and there
is nothing to compare it with.
"""

from pathlib import Path

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import manifest
from mobilesam_export.errors import UsageError
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import step
from mobilesam_export.verification import cases, verify


def compare(folder: Path) -> verify.Report:
    """Hold the runtime's answers to the evaluator's, by the tolerance of the bundle's recipe.

    Returns:
        A report with the evaluator in the place of PyTorch; unverified where the runtime is not.

    Raises:
        UsageError: the backend has no evaluator.
        MobileSamExportError: the bundle is damaged, or its files cannot be run.
    """
    opened = manifest.open_bundle(folder)
    backend = get_backend(opened.backend)
    if not hasattr(backend, "load_evaluator"):
        raise UsageError(f"--evaluator is for Core ML bundles; {folder} is for {opened.backend}")
    if reason := backend.evaluated():
        return verify.unverified(reason)
    with step("Asking the evaluator for the expected answers"):
        evaluator = Predictor(
            backend.load_evaluator(folder / f"encoder{backend.SUFFIX}"),
            backend.load_evaluator(folder / f"decoder{backend.SUFFIX}"),
            opened.contract,
        )
        expected = cases.reference_cases(evaluator)
    with step("Comparing with the evaluator"):
        return verify.verify(opened.predictor(), expected, opened.recipe.tolerance)
