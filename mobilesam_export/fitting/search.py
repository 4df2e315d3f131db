"""Which groups of layers to raise: ranked by what they do to the masks, tried on the files.

Groups are ranked in PyTorch (`sensitivity`): by the mask IoU that is lost when one of them alone is
rounded, for each of its weights. How many it takes is first estimated in PyTorch as well, because a
conversion takes longer. What decides is the verification of the files themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mobilesam_export import sensitivity
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.fitting.ranking import (
    Candidate,
    layers_of,
    rank,
    simulated,
)
from mobilesam_export.graphs import Graph, as_session
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import items_bar, step
from mobilesam_export.target import GRAPHS, Recipe
from mobilesam_export.target.fitted import raised
from mobilesam_export.verification.cases import ImageCase
from mobilesam_export.verification.status import Status
from mobilesam_export.verification.verify import Report, verify

MOST_LISTED = 6
WORDS = {"int8": "int8 weights, computed in float"}
MORE_BLOCKS = 3  # than a simulation takes
NOTHING = -1  # of what no trial was made
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
        stored: what the exceptions say, see `Backend.raised_types`.
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
        names = [f"{graph} {name}" for graph, found in self.raised.items() for name in found]
        listed = ", ".join(names[:MOST_LISTED]) or "nothing"
        if len(names) > MOST_LISTED:
            listed += f" and {len(names) - MOST_LISTED} more"
        before, after = self.first.bytes / 1e6, self.last.bytes / 1e6
        return (
            f"fitted to these weights: {listed} raised ({WORDS.get(self.stored, self.stored)}); "
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
        stored: words for exceptions, see `Backend.raised_types`.
        accepts: whether the backend takes a recipe; it may refuse to raise some groups.
        graphs: encoder and decoder in export form.
        groups: blocks of their weights that the recipe compresses, by graph.
        contract: of the graphs.
        expected: images with prompts and PyTorch's answers: what files are verified with.
        ranked_on: the same that groups are ranked on.
        first: the files of the recipe.
    """

    recipe: Recipe
    stored: tuple[str, ...]
    accepts: Callable[[Recipe], bool]
    graphs: tuple[Graph, Graph]
    groups: sensitivity.Groups
    contract: Contract
    expected: Sequence[ImageCase]
    ranked_on: Sequence[ImageCase]
    first: Trial

    def recipe_of(self, chosen: Sequence[Candidate], stored: str) -> Recipe:
        """The recipe with these groups raised."""
        return raised(self.recipe, patterns_of(chosen), stored)


def patterns_of(chosen: Sequence[Candidate]) -> dict[str, list[str]]:
    """Patterns by graph, of those graphs that have some."""
    found = {name: [item.pattern for item in chosen if item.graph == name] for name in GRAPHS}
    return {name: patterns for name, patterns in found.items() if patterns}


def fit(problem: Problem, make: Make) -> Fit:
    """Raise as few layers as it takes, of the blocks that need it.

    Args:
        problem: what is to be fitted.
        make: converts and verifies by a recipe; the files of the last call stay.

    Returns:
        The fit. If nothing holds, neither does its `last`: the files of the best trial, by the
        worst mask IoU.
    """
    ranked, conversions = _ranked(problem, problem.groups), 1
    for layers, stored in _searches(problem, make, ranked):
        search = _Search(problem, make, stored, _ranked(problem, layers))
        count = search.least()
        conversions += search.made
        if search.trials[count].holds:
            break
    conversions += search.again(count)
    chosen = search.ranked[:count]
    return Fit(
        raised=patterns_of(chosen),
        stored=stored,
        recipe=problem.recipe_of(chosen, stored),
        first=problem.first,
        last=search.trials[count],
        trials=conversions,
    )


def _searches(
    problem: Problem, make: Make, ranked: Sequence[Candidate]
) -> Iterator[tuple[sensitivity.Groups, str]]:
    """Layers to choose from and in what to raise them, the search that takes least first.

    A block is some six layers, so those of a few blocks are ranked first: as many as it takes in a
    simulation that raises whole blocks, and some more.
    """
    for stored in problem.stored:
        search = _Search(problem, make, stored, ranked)
        estimate = search.estimate()
        if estimate is None and stored != problem.stored[-1]:
            continue
        some = len(search.ranked) if estimate is None else estimate + MORE_BLOCKS
        for chosen in dict.fromkeys((tuple(search.ranked[:some]), tuple(search.ranked))):
            yield layers_of(problem.groups, chosen), stored


def _ranked(problem: Problem, groups: sensitivity.Groups) -> list[Candidate]:
    """All of these groups, those first that harm most for their size."""
    damages = []
    with items_bar("Ranking groups of layers", sum(map(len, groups.values()))) as advance:
        for damage in sensitivity.measure(
            problem.graphs, problem.recipe, problem.ranked_on, problem.contract, groups
        ):
            damages.append(damage)
            advance()
    return rank(damages)


class _Search:
    """Trials by how many groups of the ranking are raised, all in the same way."""

    def __init__(
        self, problem: Problem, make: Make, stored: str, ranked: Sequence[Candidate]
    ) -> None:
        self.problem, self.make, self.stored = problem, make, stored
        accepts = problem.accepts
        self.ranked = [item for item in ranked if accepts(problem.recipe_of([item], stored))]
        self.trials: dict[int, Trial] = {0: problem.first}
        self.made = 0
        self.last = NOTHING

    def least(self) -> int:
        """The least number that holds, as far as a few trials tell; else the best."""
        count = self._up(self.estimate() or len(self.ranked))
        return self._down(count) if self.trials[count].holds else count

    def again(self, count: int) -> int:
        """Let the files be those of this number; how many conversions it takes."""
        if self.last == count:
            return 0
        self._make(count)
        return 1

    def estimate(self) -> int | None:
        """The least number, 1 or more, with which a simulation in PyTorch holds."""
        with step("Estimating how much to raise"):
            if not self.ranked or not self._holds(len(self.ranked)):
                return None
            fails, holds = 0, len(self.ranked)
            while holds - fails > 1:
                middle = (fails + holds) // 2
                fails, holds = (fails, middle) if self._holds(middle) else (middle, holds)
        return holds

    def _holds(self, count: int) -> bool:
        """Whether a simulation does, with so many groups raised."""
        problem = self.problem
        encoder, decoder = problem.graphs
        predictor = Predictor(as_session(encoder), as_session(decoder), problem.contract)
        chosen = self.ranked[:count]
        with simulated(problem.graphs, problem.recipe, problem.groups, chosen, self.stored):
            report = verify(predictor, problem.expected, problem.recipe.tolerance)
        return report.status is Status.PASSED

    def _up(self, count: int) -> int:
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

    def _down(self, count: int) -> int:
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
        with step(f"Trying the recipe with {count} of {len(self.ranked)} groups raised"):
            trial = self.make(self.problem.recipe_of(self.ranked[:count], self.stored))
        self.made, self.last = self.made + 1, count
        return trial


def _worst(trial: Trial) -> float:
    return min((prompt.mask_iou for prompt in trial.report.prompts), default=0.0)
