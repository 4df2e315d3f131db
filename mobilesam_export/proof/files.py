"""Files of graphs, run and compared with PyTorch's answers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export.backends import Backend
from mobilesam_export.bundle.load import load_predictor
from mobilesam_export.contract import Contract
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import step
from mobilesam_export.target import Recipe
from mobilesam_export.verification import cases, prepared, sets, verify
from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.report import Report

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.graphs import Graph


@dataclass(frozen=True)
class Files:
    """The files of a bundle, not opened yet."""

    folder: Path
    backend: Backend
    recipe: Recipe
    contract: Contract

    def path(self, graph: str) -> Path:
        """Of one graph."""
        return self.folder / f"{graph}{self.backend.suffix}"


def verify_files(
    files: Files,
    graphs: "tuple[Graph, ...]",
    expected: tuple[cases.ImageCase, ...],
    *,
    explained: bool = True,
) -> Report:
    """Run the files, and where chips compute them in float16 also in its pessimistic form.

    Args:
        files: the files.
        graphs: the export form of encoder, decoder and the further files.
        expected: PyTorch's answers.
        explained: look also for what else files that fail miss, and where they go wrong.
    """
    recipe = files.recipe
    with step("Verifying the files against PyTorch"):
        report = _as_they_are(files, expected, explained=explained)
    if report.failures and not explained:
        return report
    if files.backend.computes_float16(recipe, files.contract.form) and not files.contract.dynamic:
        float16 = _pessimistic(files, graphs, expected)
        failures = float16.broken_limits(recipe.tolerance)
        report = replace(report.failing(failures), float16=float16)
    return report


def _as_they_are(files: Files, expected: tuple[cases.ImageCase, ...], *, explained: bool) -> Report:
    recipe = files.recipe
    predictor = load_predictor(files.folder, files.backend, files.contract, batch=True)
    plain = replace(predictor, prepare=None, decoder_prepared=None)
    report = verify.verify(plain, expected, recipe.tolerance, explained=explained)
    if predictor.decoder_batch is not None:
        report = sets.judged(report, plain, predictor.decoder_batch, expected, recipe)
    if predictor.decoder_prepared is not None:
        report = prepared.judged(report, predictor, expected, recipe)
    return report


def _pessimistic(
    files: Files, graphs: "tuple[Graph, ...]", expected: tuple[cases.ImageCase, ...]
) -> Float16:
    from mobilesam_export.verification import pessimistic
    from mobilesam_export.verification.half import PessimisticFloat16

    with step("Computing them in pessimistic float16"):
        named = {graph.spec.name: graph for graph in graphs}
        halves = {name: PessimisticFloat16() for name in named}
        islands = files.backend.float32_islands(files.recipe)
        sessions = {
            name: files.backend.stepwise(files.path(name), halves[name].at)
            or pessimistic.open_graph(graph, halves[name], islands)
            for name, graph in named.items()
        }
        return pessimistic.measure(Predictor(contract=files.contract, **sessions), halves, expected)
