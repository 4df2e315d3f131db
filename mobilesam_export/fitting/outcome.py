"""What comes of a search: the fitted recipe, its files, and what they cost."""

from dataclasses import dataclass
from typing import Any, Protocol

from mobilesam_export.target import Recipe
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

MOST_LISTED = 6
WORDS = {"int8": "int8 weights, computed in float"}


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

    @property
    def worst(self) -> float:
        """The least mask IoU of all prompts; 0 where none was asked."""
        return min((prompt.mask_iou for prompt in self.report.prompts), default=0.0)


class Trials(Protocol):
    """Makes files by one recipe after the other, all in the same place."""

    def make(self, recipe: Recipe) -> Trial:
        """Write the files of a recipe in place of those before, and verify them."""
        ...

    def keep(self) -> None:
        """Set the last files aside, in place of those that were."""
        ...

    def restore(self) -> None:
        """Put those that were set aside back."""
        ...


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
        reason: why no choice of layers can hold; "" where one does, or might have.
    """

    raised: dict[str, list[str]]
    stored: str
    recipe: Recipe
    first: Trial
    last: Trial
    trials: int
    reason: str = ""

    def summary(self) -> str:
        """One line for people."""
        names = [f"{graph} {name}" for graph, found in self.raised.items() for name in found]
        listed = ", ".join(names[:MOST_LISTED]) or "nothing"
        if len(names) > MOST_LISTED:
            listed += f" and {len(names) - MOST_LISTED} more"
        before, after = self.first.bytes / 1e6, self.last.bytes / 1e6
        cost = (
            f"{listed} raised ({WORDS.get(self.stored, self.stored)}); "
            f"{before:.1f} -> {after:.1f} MB, {self.trials} conversions"
        )
        if self.last.holds:
            return f"fitted to these weights: {cost}"
        reached = f"mask IoU {self.last.worst:.4f} at worst with {cost}"
        return f"cannot be fitted to these weights: {self.reason or 'no trial holds'}; {reached}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "raised": self.raised,
            "stored": self.stored,
            "bytes": {"recipe": self.first.bytes, "fitted": self.last.bytes},
            "trials": self.trials,
            "reason": self.reason,
            "recipe_failures": list(self.first.report.failures),
        }
