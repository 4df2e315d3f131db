"""What a backend is told about one conversion, beside the graph itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobilesam_export.contract import Array, Contract
from mobilesam_export.target import Recipe


@dataclass(frozen=True)
class Conversion:
    """How to write one file.

    Attributes:
        options: the target's and the recipe's [convert] tables, as the backend parsed them.
        recipe: what the numbers are.
        contract: of the bundle that the file belongs to.
        metadata: what the file says about itself, by name.
        samples: inputs of this graph in the contract's form, to find the ranges of activations;
            empty unless the recipe is calibrated.
    """

    options: Any
    recipe: Recipe
    contract: Contract
    metadata: Mapping[str, str]
    samples: Sequence[Mapping[str, Array]] = ()
