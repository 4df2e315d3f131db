"""A recipe whose files have failed -> files of the same with some layers raised (`fitting`)."""

import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mobilesam_export import fitting
from mobilesam_export.backends.compensation import choices
from mobilesam_export.bundle import readme
from mobilesam_export.errors import TargetError
from mobilesam_export.files import remove
from mobilesam_export.fitting.known import known_numbers
from mobilesam_export.graphs import Graph
from mobilesam_export.pipeline.jobs import parsed_recipe
from mobilesam_export.pipeline.maker import Maker
from mobilesam_export.predictor import Predictor
from mobilesam_export.rounding import Known
from mobilesam_export.target import Recipe
from mobilesam_export.target.recipe import PRECISIONS
from mobilesam_export.verification.report import Report


def fitted(maker: Maker, report: Report, reference: Predictor) -> fitting.Fit:
    """Raise layers until the files hold.

    Args:
        maker: has written the files of the recipe as it is.
        report: of these.
        reference: the float32 model.
    """
    plan = maker.plan
    with tempfile.TemporaryDirectory() as aside:
        trials = StagedTrials(maker, Path(aside))
        problem = fitting.Problem(
            recipe=plan.recipe,
            stored=plan.backend.raised_types(plan.recipe),
            accepts=partial(_accepts, maker),
            graphs=maker.graphs,
            compressed={
                graph.spec.name: fitting.compressed_weights(
                    graph, plan.recipe, partial(plan.backend.compresses, plan.recipe, graph)
                )
                for graph in maker.graphs
            },
            contract=plan.contract,
            expected=maker.expected,
            ranked_on=fitting.ranking_cases(maker.job.calibration, maker.expected, reference),
            first=trials.trial(report),
            known={graph.spec.name: _known(maker, graph) for graph in maker.graphs},
        )
        return fitting.fit(problem, trials)


@dataclass
class StagedTrials:
    """Makes the files of trials in an export's stage; see `fitting.Trials`."""

    maker: Maker
    aside: Path
    written: dict[str, Any] = field(default_factory=dict)  # the maker's, of the files set aside

    def trial(self, report: Report) -> fitting.Trial:
        """What the files in the stage are."""
        return fitting.Trial(sum(readme.artifact_sizes(self.maker.stage).values()), report)

    def make(self, recipe: Recipe) -> fitting.Trial:
        return self.trial(self.maker.report(recipe))

    def keep(self) -> None:
        _copy(self.maker.stage, self.aside)
        self.written = dict(self.maker.converted)

    def restore(self) -> None:
        _copy(self.aside, self.maker.stage)
        self.maker.converted = dict(self.written)


def _copy(source: Path, folder: Path) -> None:
    """Let a folder have the files, and folders, of another in place of its own of these names."""
    for path in source.iterdir():
        there = folder / path.name
        remove(there)
        if path.is_dir():
            shutil.copytree(path, there)
        else:
            shutil.copyfile(path, there)


def _known(maker: Maker, graph: Graph) -> Known:
    """What is known of the numbers of the recipe's file, which has been written."""
    backend, recipe, name = maker.plan.backend, maker.plan.recipe, graph.spec.name
    inputs = None
    if recipe.activations not in PRECISIONS:
        parsed = parsed_recipe(backend, maker.job.target, recipe)
        inputs = backend.rounded_inputs(graph, recipe, parsed)
    return known_numbers(graph, inputs, choices(maker.kept, name), maker.samples(name))


def _accepts(maker: Maker, recipe: Recipe) -> bool:
    try:
        parsed_recipe(maker.plan.backend, maker.job.target, recipe)
    except TargetError:
        return False
    return True
