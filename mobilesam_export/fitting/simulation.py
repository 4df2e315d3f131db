"""Whether a recipe holds with some layers raised, as PyTorch tells: sooner than files do.

It is no more than a guess. Files fix ranges of activations beforehand, and they add up in another
order; where they turn out to lose more, the simulation is held to less from then on.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mobilesam_export.fitting.problem import Problem, predictor_of
from mobilesam_export.fitting.ranking import Candidate, simulated
from mobilesam_export.predictor import Predictor
from mobilesam_export.target import Tolerance
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.verify import holds, verify

MOST = 10.0  # times as much may files lose; beyond, a simulation says nothing of them


class Simulation:
    """Asked of one problem.

    Attributes:
        tolerance: what it is held to, the recipe's at first.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.tolerance = problem, problem.recipe.tolerance

    def holds(self, chosen: Sequence[Candidate], stored: str) -> bool:
        """Whether it does, with these layers raised to `stored`."""
        with self._rounded(chosen, stored) as predictor:
            return holds(predictor, self.problem.expected, self.tolerance)

    def correct(self, chosen: Sequence[Candidate], stored: str, files: Report) -> None:
        """Hold it to what these files, which failed, show to be lost beyond it."""
        tolerance = self.problem.recipe.tolerance
        with self._rounded(chosen, stored) as predictor:
            found = verify(predictor, self.problem.expected, tolerance, explained=False)
        self.tolerance = tightened(tolerance, found, files)

    @contextlib.contextmanager
    def _rounded(self, chosen: Sequence[Candidate], stored: str) -> Iterator[Predictor]:
        """The graphs while all but these layers are rounded."""
        problem = self.problem
        raised = (chosen, stored)
        with simulated(problem.graphs, problem.recipe, problem.compressed, *raised, problem.known):
            yield predictor_of(problem)


def tightened(tolerance: Tolerance, simulated: Report, files: Report) -> Tolerance:
    """What a simulation is to hold for files to hold a tolerance.

    Args:
        tolerance: of the files.
        simulated: of one recipe.
        files: of the same one.

    Returns:
        With those limits of masks and embeddings that the files have broken moved by what they lost
        beyond the simulation.
    """
    ours, theirs = (
        np.array([item.mask_iou for item in report.prompts]) for report in (simulated, files)
    )
    found = {
        "mean_mask_iou": _share(tolerance.mean_mask_iou, float(ours.mean()), float(theirs.mean())),
        "mask_iou": _share(tolerance.mask_iou, float(ours.min()), float(theirs.min())),
        "embedding_psnr_db": tolerance.embedding_psnr_db,
    }
    worst = [min(item.psnr_db for item in report.embeddings) for report in (simulated, files)]
    if worst[1] < tolerance.embedding_psnr_db:
        found["embedding_psnr_db"] += max(0.0, worst[0] - worst[1])
    return replace(tolerance, **found)


def _share(least: float, simulated: float, files: float) -> float:
    """A limit of mask IoU whose loss is as much smaller as the simulation's is than the files'."""
    if files >= least:
        return least
    return 1 - (1 - least) * max(1 / MOST, min(1.0, (1 - simulated) / (1 - files)))
