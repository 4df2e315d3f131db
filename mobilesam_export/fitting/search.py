"""Which groups of layers to raise: ranked by what they do to the masks, tried on the files.

Groups are ranked in PyTorch (`sensitivity`): by the mask IoU that is lost when one of them alone is
rounded, for each of its weights. How many it takes is first estimated in PyTorch as well, because a
conversion takes longer. What decides is the verification of the files themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mobilesam_export import sensitivity
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.fitting.ranking import Candidate, rank, simulated
from mobilesam_export.graphs import Graph, as_session
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import items_bar, step
from mobilesam_export.target import GRAPHS, Recipe
from mobilesam_export.target.fitted import raised
from mobilesam_export.verification.cases import ImageCase
from mobilesam_export.verification.status import Status
from mobilesam_export.verification.verify import Report, verify

DOWNWARD = 2  # trials that look for fewer groups, once a number of them holds


@dataclass(frozen=True)
class Trial:
    """Files of one recipe.

    Attributes:
        bytes: of both files.
        report: of their verification.
    """

    bytes: int
    report: Report

    @property
    def holds(self) -> bool:
        """Whether the files are verified."""
        return self.report.status is Status.PASSED


@dataclass(frozen=True)
class Fit:
    """How a recipe was fitted.

    Attributes:
        raised: for "encoder" and "decoder", patterns of what is not compressed any more.
        stored: what the exceptions say, see `Backend.raised_type`.
        recipe: with these exceptions.
        first: the files of the recipe as it was.
        last: those of `recipe`, which lie in the stage.
        trials: how many conversions and verifications it took, the first among them.
    """

    raised: dict[str, list[str]]
    stored: str
    recipe: Recipe
    first: Trial
    last: Trial
    trials: int

    def summary(self) -> str:
        """One line for people."""
        names = ", ".join(
            f"{graph} {name}" for graph, found in self.raised.items() for name in found
        )
        before, after = self.first.bytes / 1e6, self.last.bytes / 1e6
        return (
            f"fitted to these weights: {names or 'nothing'} in {self.stored}; "
            f"{before:.1f} -> {after:.1f} MB, {self.trials} conversions"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "raised": self.raised,
            "stored": self.stored,
            "bytes": {"recipe": self.first.bytes, "fitted": self.last.bytes},
            "trials": self.trials,
            "recipe_failures": list(self.first.report.failures),
        }


Make = Callable[[Recipe], Trial]


@dataclass(frozen=True)
class Problem:
    """What is to be fitted.

    Attributes:
        recipe: with compressed weights, which did not hold.
        stored: exception of what is raised, see `Backend.raised_type`.
        accepts: whether the backend takes a recipe; it may refuse to raise some groups.
        graphs: encoder and decoder in export form.
        contract: of the graphs.
        expected: images with prompts and PyTorch's answers: what files are verified with.
        ranked_on: the same that groups are ranked on.
        first: the files of the recipe.
    """

    recipe: Recipe
    stored: str
    accepts: Callable[[Recipe], bool]
    graphs: tuple[Graph, Graph]
    contract: Contract
    expected: Sequence[ImageCase]
    ranked_on: Sequence[ImageCase]
    first: Trial

    def recipe_of(self, chosen: Sequence[Candidate]) -> Recipe:
        """The recipe with these groups raised."""
        return raised(self.recipe, patterns_of(chosen), self.stored)


def patterns_of(chosen: Sequence[Candidate]) -> dict[str, list[str]]:
    """Patterns by graph, of those graphs that have some."""
    found = {name: [item.pattern for item in chosen if item.graph == name] for name in GRAPHS}
    return {name: patterns for name, patterns in found.items() if patterns}


def fit(problem: Problem, make: Make) -> Fit:
    """Raise as few groups as it takes.

    Args:
        problem: what is to be fitted.
        make: converts and verifies by a recipe; the files of the last call stay.

    Returns:
        The fit. If no number of groups holds, its `last` does not: the files of the best trial, by
        the worst mask IoU.
    """
    ranked = _ranked(problem)
    search = _Search(problem, make, ranked)
    count = search.up(_estimate(problem, ranked))
    if search.trials[count].holds:
        count = search.down(count)
    search.again(count)
    chosen = search.ranked[:count]
    return Fit(
        raised=patterns_of(chosen),
        stored=problem.stored,
        recipe=problem.recipe_of(chosen),
        first=problem.first,
        last=search.trials[count],
        trials=search.made + 1,
    )


def _ranked(problem: Problem) -> list[Candidate]:
    groups = sum(
        len(sensitivity.weight_groups(graph.module, problem.recipe.weight_threshold))
        for graph in problem.graphs
    )
    damages = []
    with items_bar("Ranking groups of layers", groups) as advance:
        for damage in sensitivity.measure(
            problem.graphs, problem.recipe, problem.ranked_on, problem.contract
        ):
            damages.append(damage)
            advance()
    ranked = rank(damages, problem.graphs, problem.recipe)
    return [item for item in ranked if problem.accepts(problem.recipe_of([item]))]


def _estimate(problem: Problem, ranked: Sequence[Candidate]) -> int:
    """The least number of groups with which a simulation in PyTorch holds; 1 or more."""
    encoder, decoder = problem.graphs
    predictor = Predictor(as_session(encoder), as_session(decoder), problem.contract)
    fails, holds = 0, len(ranked)
    with step("Estimating how many groups it takes"):
        while holds - fails > 1:
            middle = (fails + holds) // 2
            with simulated(problem.graphs, problem.recipe, ranked[:middle]):
                report = verify(predictor, problem.expected, problem.recipe.tolerance)
            if report.status is Status.PASSED:
                holds = middle
            else:
                fails = middle
    return max(1, holds)


class _Search:
    """Trials by how many groups of the ranking are raised."""

    def __init__(self, problem: Problem, make: Make, ranked: list[Candidate]) -> None:
        self.problem, self.make, self.ranked = problem, make, ranked
        self.trials: dict[int, Trial] = {0: problem.first}
        self.made = 0
        self.last = 0

    def up(self, count: int) -> int:
        """From a number of groups to one that holds, by growing steps; else to the best."""
        stride = 1
        while self.ranked:
            count = self._try(min(count, len(self.ranked)))
            if self.trials[count].holds:
                return count
            if count >= len(self.ranked):
                break
            count, stride = count + stride, 2 * stride
        return max(self.trials, key=lambda number: _worst(self.trials[number]))

    def down(self, count: int) -> int:
        """From a number that holds to a smaller one that does, in a few trials."""
        fails = max(number for number, trial in self.trials.items() if not trial.holds)
        for _ in range(DOWNWARD):
            if count - fails <= 1:
                break
            middle = self._try((fails + count) // 2)
            if self.trials[middle].holds:
                count = middle
            else:
                fails = middle
        return count

    def again(self, count: int) -> None:
        """Let the files be those of this number."""
        if self.last != count:
            self._make(count)

    def _try(self, count: int) -> int:
        """Make a trial; its number, less what the backend turns out not to know."""
        while count not in self.trials:
            try:
                self.trials[count] = self._make(count)
            except TargetError as exc:
                unknown = [item for item in self.ranked[:count] if item.pattern in exc.keys]
                if not unknown:
                    raise
                self.ranked = [item for item in self.ranked if item not in unknown]
                count = min(count, len(self.ranked))
        return count

    def _make(self, count: int) -> Trial:
        groups = "1 group" if count == 1 else f"{count} groups"
        with step(f"Trying the recipe with {groups} of layers raised"):
            trial = self.make(self.problem.recipe_of(self.ranked[:count]))
        self.made, self.last = self.made + 1, count
        return trial


def _worst(trial: Trial) -> float:
    return min((prompt.mask_iou for prompt in trial.report.prompts), default=0.0)
