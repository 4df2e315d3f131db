"""What is to be fitted: a recipe that does not hold, the graphs, and what they are judged by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mobilesam_export import sensitivity
from mobilesam_export.contract import Contract
from mobilesam_export.fitting.outcome import Trial
from mobilesam_export.fitting.ranking import Candidate, Compressed
from mobilesam_export.graphs import Graph, as_session
from mobilesam_export.predictor import Predictor
from mobilesam_export.rounding import NOTHING_KNOWN
from mobilesam_export.target import GRAPHS, Recipe
from mobilesam_export.target.fitted import raised
from mobilesam_export.target.recipe import PRECISIONS
from mobilesam_export.verification.cases import ImageCase


@dataclass(frozen=True)
class Problem:
    """What is to be fitted.

    Attributes:
        recipe: with compressed weights, which did not hold.
        stored: words for exceptions, see `Backend.raised_types`.
        accepts: whether the backend takes a recipe; it may refuse to raise some layers.
        graphs: encoder and decoder in export form.
        compressed: names of their weights that the recipe compresses, by graph.
        contract: of the graphs.
        expected: images with prompts and PyTorch's answers: what files are verified with.
        ranked_on: the same that layers are ranked on.
        first: the files of the recipe.
        known: of the numbers of the recipe's files, by graph.
    """

    recipe: Recipe
    stored: tuple[str, ...]
    accepts: Callable[[Recipe], bool]
    graphs: tuple[Graph, Graph]
    compressed: Compressed
    contract: Contract
    expected: Sequence[ImageCase]
    ranked_on: Sequence[ImageCase]
    first: Trial
    known: sensitivity.KnownNumbers = field(default_factory=dict)

    def recipe_of(self, chosen: Sequence[Candidate], stored: str) -> Recipe:
        """The recipe with these layers raised."""
        return raised(self.recipe, patterns_of(chosen), stored)

    def changes(self, layer: Candidate, stored: str) -> bool:
        """Whether it says something new of a layer to store it so.

        In int8 it computes in float32, which layers that are only stored in int8 do anyway.
        """
        known = self.known.get(layer.graph, NOTHING_KNOWN)
        return stored in PRECISIONS or known.rounds(f"{layer.pattern}.weight")


def patterns_of(chosen: Sequence[Candidate]) -> dict[str, list[str]]:
    """Patterns by graph, of those graphs that have some."""
    found = {name: [item.pattern for item in chosen if item.graph == name] for name in GRAPHS}
    return {name: patterns for name, patterns in found.items() if patterns}


def predictor_of(problem: Problem) -> Predictor:
    """The graphs as PyTorch runs them, with the weights that they have when it is asked."""
    encoder, decoder = problem.graphs
    return Predictor(as_session(encoder), as_session(decoder), problem.contract)
