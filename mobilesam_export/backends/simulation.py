"""What a recipe's numbers leave of weights and activations, for fits and for training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mobilesam_export.contract import Array

Rounding = Callable[[Array], Array]
Start = Callable[[Array, Array], Array]
Range = tuple[float, float]
Fix = Callable[[float, float, Array], Range]


@dataclass(frozen=True)
class Inputs:
    """How a layer rounds its input: 255 steps from the least to the greatest value, 0 exact.

    Attributes:
        fix: (least, greatest, sample of all values) -> the range that is fixed at export; None
            where the file finds the range of each map as it runs.
        rows: whether it then finds one for each place of a map: the values of all channels.
        results: whether what the layer gives is rounded like that, too.
        weight_bits: of the numbers that it multiplies its input with.
    """

    fix: Fix | None = None
    rows: bool = False
    results: bool = False
    weight_bits: int = 8


@dataclass(frozen=True)
class Simulation:
    """One graph as its file computes it, but for what float16 rounds.

    Attributes:
        weights: by the name of a weight in the export form, float32 -> what the file restores
            from fewer bits, float32 of the same shape.
        inputs: by the name of a layer's weight, how what the layer takes is rounded.
        starts: by the name of a matrix (outputs, inputs), the matrix and the mean of x x^T of what
            it is multiplied with, (inputs, inputs) float64 -> a matrix on the grid whose products
            lose less than those of the nearest one; for the beginning of training.
    """

    weights: Mapping[str, Rounding]
    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    starts: Mapping[str, Start] = field(default_factory=dict)
