"""What a backend is told about one conversion, beside the graph itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobilesam_export.contract import Array, Contract
from mobilesam_export.target import Recipe


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
    """

    settings: Settings
    recipe: Recipe
    contract: Contract
    metadata: Mapping[str, str]
    samples: Sequence[Mapping[str, Array]] = ()
