"""What a backend is told about one conversion, beside the graph itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mobilesam_export.contract import Array, Contract
from mobilesam_export.target import Recipe

Made = TypeVar("Made")


@dataclass(frozen=True)
class Settings:
    """What a backend has read from a recipe, a graph form and the [convert] tables.

    A backend returns its own subclass from `parse_recipe` and gets it back in `convert`. Nobody
    else looks inside.
    """


@dataclass(frozen=True)
class Conversion:
    """How to write one file.

    Attributes:
        settings: from the backend's `parse_recipe`.
        recipe: element types, granularity and exceptions, as in the TOML.
        contract: of the bundle that the file belongs to.
        metadata: what the file says about itself, by name.
        samples: inputs of this graph in the contract's form, to find the ranges of activations;
            there are some if the recipe is calibrated.
        kept: what `once` has made; one dictionary for several conversions of the same graphs whose
            recipes differ in their exceptions only.
        steps: what came of steps that are tried at each conversion, by name; for the manifest.
    """

    settings: Settings
    recipe: Recipe
    contract: Contract
    metadata: Mapping[str, str]
    samples: Sequence[Mapping[str, Array]] = ()
    kept: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    steps: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: str, make: Callable[[], Made]) -> Made:
        """What is the same whatever a recipe excepts, made by the first conversion that needs it.

        Args:
            key: of what is made, different for each graph.
            make: makes it; nobody may change the result, but a dictionary may be added to.
        """
        if key not in self.kept:
            self.kept[key] = make()
        made: Made = self.kept[key]  # type: ignore[assignment] # what `make` returned
        return made
