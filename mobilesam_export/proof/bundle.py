"""A finished bundle, verified again: by its runtime, by a second program, or by ARM builds."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import packages
from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.manifest import Bundle, open_bundle, record_arm
from mobilesam_export.errors import OutputError, UsageError
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import note, step
from mobilesam_export.proof import arm
from mobilesam_export.proof.files import Files, verify_files
from mobilesam_export.proof.square import beside_square
from mobilesam_export.target import Tolerance
from mobilesam_export.verification import cases, verify
from mobilesam_export.verification.report import Report, unverified

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.model import Sam

# What PyTorch's answers are computed with.
REFERENCE = ("torch", "safetensors", "scipy", "platformdirs")


def verify_bundle(
    folder: Path, checkpoint: str | None = None, *, emulate: bool = False
) -> tuple[Report, dict[str, Report]]:
    """Check the hashes of an existing bundle and hold its files to PyTorch again.

    What ARM builds make of the files is kept in the manifest, beside what was found at the export.

    Args:
        folder: the bundle.
        checkpoint: what it was made of, or None to take what its manifest names.
        emulate: whether the ARM builds of its runtime run the files as well.

    Returns:
        The report on its runtime here, and the reports on ARM builds by the emulated processor
        model, a key of `arm.MODELS`.

    Raises:
        BundleError: it is damaged or no bundle. UsageError: that is another checkpoint, or there is
            no emulator or no ARM build of that runtime. BackendError: the emulated process ended,
            or its runtime refuses the files.
    """
    with step("Checking the bundle's hashes"):
        opened = open_bundle(folder)
    backend = get_backend(opened.backend)
    if emulate:
        if reason := arm.why_unavailable(backend):
            raise UsageError(f"--arm: {reason}")
        packages.require(*REFERENCE, extra="torch")
    if reason := opened.why_not_run() or packages.why_missing(*REFERENCE, extra="torch"):
        return unverified(f"hashes are right, but {reason}"), {}
    from mobilesam_export.graphs import further_graphs, ranges, split_graphs

    sam, expected = _expected_answers(opened, checkpoint)
    on_grid = bool(opened.provenance.recovered_for)
    folded = ranges.fold_ranges(sam, opened.exponents, on_grid=on_grid)
    contract = opened.contract
    graphs = (*split_graphs(folded, contract), *further_graphs(folded, contract))
    files = Files(folder, backend, opened.recipe, contract)
    report = beside_square(verify_files(files, graphs, expected), sam, contract)
    models = arm.MODELS if emulate else ()
    emulated = {model: _verify_emulated(opened, model, expected) for model in models}
    if emulated:
        keep(opened, emulated)
    return report, emulated


def keep(opened: Bundle, emulated: dict[str, Report]) -> None:
    """Put reports into the manifest; where it cannot be written they are printed all the same."""
    try:
        record_arm(opened, emulated)
    except OutputError as exc:
        note(f"the figures of ARM builds are not in the manifest: {exc}")


def _verify_emulated(opened: Bundle, model: str, expected: tuple[cases.ImageCase, ...]) -> Report:
    # Emulation is slow: one prompt without a mask and one with it.
    few = tuple(replace(case, prompts=case.prompts[:: len(case.prompts) - 1]) for case in expected)
    text = f"Verifying the files on an emulated {model}"
    with step(text), arm.sessions(opened.folder, model) as sessions:
        predictor = Predictor(*sessions, opened.contract)
        return verify.verify(predictor, few, opened.recipe.tolerance)


def _expected_answers(
    opened: Bundle, checkpoint: str | None
) -> "tuple[Sam, tuple[cases.ImageCase, ...]]":
    from mobilesam_export.backends import reference
    from mobilesam_export.checkpoint.load import load_matching_model

    with step("Asking PyTorch for the expected answers"):
        sam = load_matching_model(opened.provenance, checkpoint, opened.contract.size)
        return sam, cases.reference_cases(reference.load(sam, opened.contract))


def compare_with_interpreter(folder: Path) -> Report:
    """Hold the runtime's answers to those of a second program that reads the same files.

    Returns:
        A report with that program in the place of PyTorch; unverified where it is all that can
        run the files here, so that there is nothing to compare it with.

    Raises:
        UsageError: there is no second program for files of this backend.
        MobileSamExportError: the bundle is damaged, or its files cannot be run.
    """
    opened = open_bundle(folder)
    backend = get_backend(opened.backend)
    paths = [folder / f"{name}{backend.suffix}" for name in ("encoder", "decoder")]
    encoder, decoder = (backend.second_opinion(path) for path in paths)
    if encoder is None or decoder is None:
        raise UsageError(
            f"--interpreter: there is no interpreter for the files of {folder}, a bundle of the "
            f"target {opened.target}"
        )
    with step("Loading the bundle"):
        predictor = opened.predictor()
    if predictor.encoder.runtime == encoder.runtime:
        return unverified(
            f"the {encoder.runtime}, is all that runs these files here; {encoder.note}"
        )
    second = Predictor(encoder, decoder, opened.contract)
    return hold_to(second, "the interpreter", predictor, opened.recipe.tolerance)


def hold_to(other: Predictor, name: str, predictor: Predictor, tolerance: Tolerance) -> Report:
    """Compare with another program in the place of PyTorch.

    Args:
        other: gives the expected answers.
        name: what people call it.
        predictor: is held to them.
        tolerance: how far it may be from them.
    """
    with step(f"Asking {name} for the expected answers"):
        expected = cases.reference_cases(other)
    with step(f"Comparing with {name}"):
        return verify.verify(predictor, expected, tolerance)
