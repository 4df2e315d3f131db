"""Which groups of layers to raise: ranked by what they do to the masks, tried on the files.

Groups are ranked in PyTorch (`sensitivity`): by the mask IoU that is lost when one of them alone is
rounded, for each of its weights. How many it takes is first estimated in PyTorch as well, because a
conversion takes longer. What decides is the verification of the files themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mobilesam_export import sensitivity
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.fitting.outcome import Fit, Trial
from mobilesam_export.fitting.ranking import Candidate, layers_of, rank, simulated
from mobilesam_export.graphs import Graph, as_session
from mobilesam_export.predictor import Predictor
from mobilesam_export.progress import items_bar, step
from mobilesam_export.target import GRAPHS, Recipe
from mobilesam_export.target.fitted import raised
from mobilesam_export.verification.cases import ImageCase
from mobilesam_export.verification.verify import holds, verify

MORE_BLOCKS = 3  # than a simulation takes
NOTHING = -1  # of what no trial was made
STEPS_TO_ALL = 8  # by one of which a number is raised that does not hold
DOWNWARD = 2  # trials that look for fewer groups, once a number of them holds

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
        chosen: weights of the recipe's files that are not those nearest to the graphs'.
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
    chosen: sensitivity.Chosen = field(default_factory=dict)

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
        worst mask IoU. It ends early where no choice of layers can hold.
    """
    if reason := _missed_in_float32(problem):
        stored = problem.stored[-1]
        return Fit({}, stored, problem.recipe, problem.first, problem.first, 1, reason)
    known: dict[Candidate, sensitivity.Damage] = {}
    ranked, conversions, reason = _ranked(problem, problem.groups, known), 1, ""
    for stored in problem.stored:
        search = _Search(problem, make, stored, ranked)
        estimate = search.estimate()
        if estimate is None and stored != problem.stored[-1]:
            continue
        if estimate is None and (reason := search.missed_with_all()):
            count = search.best()
            conversions += search.made
            break
        last = stored == problem.stored[-1]
        for layers in _layers(problem, search.ranked, estimate)[: None if last else 1]:
            search = _Search(problem, make, stored, _ranked(problem, layers, known))
            count = search.least()
            conversions += search.made
            if search.trials[count].holds:
                break
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
        reason=reason,
    )


def _missed_in_float32(problem: Problem) -> str:
    """What the graphs miss as PyTorch runs them, with nothing rounded, in words; "" if nothing."""
    with step("Checking that the float32 graphs hold the tolerance"):
        encoder, decoder = problem.graphs
        predictor = Predictor(as_session(encoder), as_session(decoder), problem.contract)
        report = verify(predictor, problem.expected, problem.recipe.tolerance)
    return f"float32 misses it as well, {report.failures[0]}" if report.failures else ""


def _layers(
    problem: Problem, ranked: Sequence[Candidate], estimate: int | None
) -> list[sensitivity.Groups]:
    """Layers to choose from, the search that takes least first.

    A block is some six layers, so those of a few blocks are ranked first: as many as it takes in a
    simulation that raises whole blocks, and some more.
    """
    some = len(ranked) if estimate is None else estimate + MORE_BLOCKS
    choices = dict.fromkeys((tuple(ranked[:some]), tuple(ranked)))
    return [layers_of(problem.groups, chosen) for chosen in choices]


def _ranked(
    problem: Problem, groups: sensitivity.Groups, known: dict[Candidate, sensitivity.Damage]
) -> list[Candidate]:
    """All of these groups, those first that harm most for their size; `known` is added to."""
    asked = {Candidate(graph, group) for graph, found in groups.items() for group in found}
    new: sensitivity.Groups = {
        graph: {k: v for k, v in found.items() if Candidate(graph, k) not in known}
        for graph, found in groups.items()
    }
    with items_bar("Ranking groups of layers", len(asked - set(known))) as advance:
        for damage in sensitivity.measure(
            problem.graphs,
            problem.recipe,
            problem.ranked_on,
            problem.contract,
            new,
            problem.chosen,
        ):
            known[Candidate(damage.graph, damage.group)] = damage
            advance()
    return rank([damage for candidate, damage in known.items() if candidate in asked])


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

    def missed_with_all(self) -> str:
        """What files miss with every group raised, in words; "" if they hold."""
        count = self._try(len(self.ranked))
        failures = self.trials[count].report.failures
        if not failures:
            return ""
        return f"with all {count} groups of layers raised the files miss it as well, {failures[0]}"

    def best(self) -> int:
        """The number whose files have the best of the worst masks."""
        return max(self.trials, key=lambda number: self.trials[number].worst)

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
        with simulated(
            problem.graphs,
            problem.recipe,
            problem.groups,
            self.ranked[:count],
            self.stored,
            problem.chosen,
        ):
            return holds(predictor, problem.expected, problem.recipe.tolerance)

    def _up(self, count: int) -> int:
        """From a number of groups to one that holds: this, some more, all; else to the best."""
        more = max(1, len(self.ranked) // STEPS_TO_ALL)
        for tried in (count, count + more, len(self.ranked)):
            if self.ranked and self.trials[made := self._try(min(tried, len(self.ranked)))].holds:
                return made
        return self.best()

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
