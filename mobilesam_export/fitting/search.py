"""Which layers to raise: ranked by what they do to the masks, tried on the files.

They are ranked in PyTorch (`sensitivity`): by the mask IoU that is lost when one of them alone is
rounded, for each of its weights and, where a recipe is for speed, of its products. How many it
takes is first estimated in PyTorch as well, because a conversion takes longer. What decides is the
verification of the files themselves.
"""

from collections.abc import Sequence

from mobilesam_export import sensitivity
from mobilesam_export.errors import TargetError
from mobilesam_export.fitting.outcome import Fit, Trial, Trials
from mobilesam_export.fitting.problem import Problem, patterns_of, predictor_of
from mobilesam_export.fitting.ranking import Candidate, layer_of, rank
from mobilesam_export.fitting.simulation import Simulation
from mobilesam_export.progress import items_bar, step
from mobilesam_export.target.recipe import PRECISIONS
from mobilesam_export.verification.verify import verify

NOTHING = -1  # of what no trial was made
STEPS_TO_ALL = 8  # by one of which a number is raised that does not hold
NEAR = 2  # layers, or a quarter of them: so near to a number that fails, fewer are not looked for


def fit(problem: Problem, trials: Trials) -> Fit:
    """Raise as few layers as it takes.

    Args:
        problem: what is to be fitted.
        trials: converts and verifies by a recipe.

    Returns:
        The fit, whose files are there. If nothing holds, neither does its `last`: the files of the
        best trial, by the worst mask IoU. It ends early where no choice of layers can hold.
    """
    if reason := _missed_in_float32(problem):
        stored = problem.stored[-1]
        return Fit({}, stored, problem.recipe, problem.first, problem.first, 1, reason)
    ranked, simulation, conversions = _ranked(problem), Simulation(problem), 1
    for stored in problem.stored:
        search = _Search(simulation, trials, stored, ranked)
        count = search.least(to_all=stored == problem.stored[-1])
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
        reason=search.missed_with_all(),
    )


def _missed_in_float32(problem: Problem) -> str:
    """What the graphs miss as PyTorch runs them, with nothing rounded, in words; "" if nothing."""
    with step("Checking that the float32 graphs hold the tolerance"):
        tolerance = problem.recipe.tolerance
        report = verify(predictor_of(problem), problem.expected, tolerance, explained=False)
    return f"float32 misses it as well, {report.failures[0]}" if report.failures else ""


def _ranked(problem: Problem) -> list[Candidate]:
    """All layers with weights that the recipe compresses, those first that are to be raised."""
    layers = {
        graph: {layer_of(name): [name] for name in names}
        for graph, names in problem.compressed.items()
    }
    damages = []
    with items_bar("Ranking layers", sum(map(len, layers.values()))) as advance:
        for damage in sensitivity.measure(
            problem.graphs,
            problem.recipe,
            problem.ranked_on,
            problem.contract,
            layers,
            problem.known,
        ):
            damages.append(damage)
            advance()
    return rank(damages, for_speed=problem.recipe.activations not in PRECISIONS)


def _near(count: int) -> int:
    """So many layers fewer are not worth a conversion."""
    return max(NEAR, count // 4)


class _Search:
    """Trials by how many layers of the ranking are raised, all in the same way."""

    def __init__(
        self, simulation: Simulation, trials: Trials, stored: str, ranked: Sequence[Candidate]
    ) -> None:
        self.simulation, self.problem = simulation, simulation.problem
        self.files, self.stored = trials, stored
        problem = self.problem
        self.ranked = [
            item
            for item in ranked
            if problem.changes(item, stored) and problem.accepts(problem.recipe_of([item], stored))
        ]
        self.trials: dict[int, Trial] = {0: self.problem.first}
        self.made = 0
        self.last = self.kept = NOTHING

    def least(self, *, to_all: bool) -> int:
        """The least number that holds, as far as a few trials tell; else the best.

        Args:
            to_all: whether all are tried if nothing else holds.
        """
        count = self._up(to_all=to_all)
        return self._down(count) if self.trials[count].holds else count

    def missed_with_all(self) -> str:
        """What files miss with every layer raised, in words; "" if they hold or there are none."""
        found = self.trials.get(len(self.ranked))
        if found is None or not found.report.failures:
            return ""
        count, missed = len(self.ranked), found.report.failures[0]
        return f"with all {count} layers raised the files miss it as well, {missed}"

    def best(self) -> int:
        """The number whose files have the best of the worst masks."""
        return max(self.trials, key=lambda number: self.trials[number].worst)

    def again(self, count: int) -> int:
        """Let the files be those of this number; how many conversions it takes."""
        if self.last == count:
            return 0
        if self.kept == count:
            self.files.restore()
            return 0
        self._make(count)
        return 1

    def estimate(self, beyond: int = 0) -> int | None:
        """The least number over `beyond` with which a simulation in PyTorch holds."""
        total = len(self.ranked)
        with step("Estimating how much to raise"):
            fails, holds = beyond, total
            while holds - fails > 1:
                middle = (fails + holds) // 2
                fails, holds = (fails, middle) if self._holds(middle) else (middle, holds)
            # Asked last: with all raised it takes longest, and mostly fewer hold.
            if holds == total and not (total and self._holds(total)):
                return None
        return holds

    def _holds(self, count: int) -> bool:
        return self.simulation.holds(self.ranked[:count], self.stored)

    def _up(self, *, to_all: bool) -> int:
        """From a first estimate to a number that holds; else to the best.

        What files lose beyond the simulation corrects the estimate once.
        """
        if (first := self.estimate()) is None:
            return self._try(len(self.ranked)) if to_all else self.best()
        count = self._try(first)
        if self.trials[count].holds:
            return count
        self.simulation.correct(self.ranked[:count], self.stored, self.trials[count].report)
        again, total = self.estimate(beyond=count), len(self.ranked)
        more = count + max(1, total // STEPS_TO_ALL)
        numbers = [] if again is None else [max(again, more)]
        for tried in (*numbers, *([total] if to_all else [])):
            made = self._try(min(tried, len(self.ranked)))
            if self.trials[made].holds:
                return made
        return self.best()

    def _down(self, count: int) -> int:
        """From a number that holds to a smaller one that does, by ever longer steps.

        The first is short: simulations are good enough for much fewer to fail, mostly.
        """
        fails = max(number for number, trial in self.trials.items() if not trial.holds)
        longest = _near(count)
        while count - fails > _near(count):
            tried = self._try(max((fails + count) // 2, count - longest))
            if self.trials[tried].holds:
                count, longest = tried, 2 * longest
            else:
                fails = tried
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
        with step(f"Trying the recipe with {count} of {len(self.ranked)} layers raised"):
            trial = self.files.make(self.problem.recipe_of(self.ranked[:count], self.stored))
        self.made, self.last = self.made + 1, count
        if trial.holds:
            self.files.keep()
            self.kept = count
        return trial
