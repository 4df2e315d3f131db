"""Files of one recipe after the other, converted as far as they differ, and verified."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam_export import calibration
from mobilesam_export.backends import Conversion
from mobilesam_export.backends.threads import torch_threads
from mobilesam_export.bundle.contents import file_metadata
from mobilesam_export.files import remove
from mobilesam_export.pipeline.jobs import Job, Plan, parsed_recipe, recipe_of_further
from mobilesam_export.progress import step
from mobilesam_export.proof.files import Files, verify_files
from mobilesam_export.target import Recipe
from mobilesam_export.verification import cases
from mobilesam_export.verification.report import Report, unverified

if TYPE_CHECKING:  # torch is imported in functions: hashes are checked without it
    from mobilesam_export.checkpoint.load import Checkpoint
    from mobilesam_export.graphs import Graph


@dataclass
class Maker:
    """Converts by one recipe after the other, which differ in their exceptions."""

    job: Job
    plan: Plan
    checkpoint: "Checkpoint"
    graphs: "tuple[Graph, Graph]"
    further: "tuple[Graph, ...]"
    expected: tuple[cases.ImageCase, ...]
    calibrated: calibration.Calibration | None
    stage: Path
    kept: dict[str, object] = field(default_factory=dict)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)  # by graph
    converted: dict[str, object] = field(default_factory=dict)  # by graph, the exceptions in it

    def report(self, recipe: Recipe) -> Report:
        """Write the files of a recipe, as far as they are not there, and run them.

        Nothing beyond that is looked for in files that fail (see `explained`): they are mostly a
        trial of a fit, and the next one follows.
        """
        from mobilesam_export.graphs import file_graphs

        for graph in file_graphs(self.graphs, self.plan.contract):
            name = graph.spec.name
            exceptions = recipe.exceptions.get(name, {})
            if self.converted.get(name) != exceptions:
                self._convert(graph, recipe)
                self.converted[name] = exceptions
        for graph in self.further:
            if graph.spec.name not in self.converted:
                self._convert(graph, recipe_of_further(self.plan.backend, recipe))
                self.converted[graph.spec.name] = {}
        return self._verified(recipe, explained=False)

    def explained(self, recipe: Recipe) -> Report:
        """Run the files again, which have failed, and look for all that they miss and where."""
        return self._verified(recipe, explained=True)

    def _verified(self, recipe: Recipe, *, explained: bool) -> Report:
        backend = self.plan.backend
        options = self.job.target.options(self.plan.recipe)
        if reason := backend.why_not_run(options) if self.job.verify else "--no-verify was given":
            return unverified(reason)
        files = Files(self.stage, backend, recipe, self.plan.contract)
        graphs = (*self.graphs, *self.further)
        return verify_files(files, graphs, self.expected, explained=explained)

    def with_encoder(self, encoder: "Graph", recipe: Recipe) -> Report:
        """Write the files again with another encoder of the same form, and run them."""
        self.graphs = (encoder, self.graphs[1])
        self.converted.pop(encoder.spec.name, None)
        for key in [key for key in self.kept if key.partition(" ")[0] == encoder.spec.name]:
            del self.kept[key]
        return self.report(recipe)

    def samples(self, graph: str) -> "calibration.Samples":
        """What a graph is calibrated on, if it is."""
        return self.calibrated.samples.get(graph, ()) if self.calibrated else ()

    def _convert(self, graph: "Graph", recipe: Recipe) -> None:
        """Write one file."""
        target, plan, name = self.job.target, self.plan, graph.spec.name
        path = self.stage / f"{name}{plan.backend.suffix}"
        remove(path)
        with step(f"Converting the {name}"), target.locating("recipe", plan.recipe_name):
            settings = parsed_recipe(plan.backend, target, recipe)
            metadata = file_metadata(graph.spec, target, plan.recipe_name, self.checkpoint)
            steps = self.steps[name] = {}
            contract, kept = plan.contract, self.kept
            conversion = Conversion(
                settings, recipe, contract, metadata, self.samples(name), kept, steps
            )
            with torch_threads(1):  # the same export gives the same bytes on any number of cores
                plan.backend.convert(graph, conversion, path)
