"""Weights in whole numbers, chosen by what their products with real inputs lose.

Rounding to the nearest number keeps the weights; what counts is the product. So inputs are rounded
one after the other, the largest first, and the error of each is spread over those still to come, as
far as they go together (GPTQ, Frantar et al., 2022, arXiv:2210.17323). The scales stay those of the
nearest numbers: what is chosen here, a converter's own rounding to the nearest leaves as it is.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph

CHOICES = "chosen weights"  # under this and a graph's name they are kept
ROWS = 4_096  # of what a layer takes of one sample, evenly spaced
DAMPING = 0.01  # of the mean square of the inputs, so that every direction counts a little


def chosen_weights(
    graph: Graph, conversion: Conversion, names: Collection[str], bits: int = 8
) -> Mapping[str, Array]:
    """Weights that take the place of the graph's before a backend rounds them.

    Args:
        graph: in export form, float32.
        conversion: with samples, if its recipe chooses weights by them.
        names: of the weights that become whole numbers with one symmetric scale for each output.
        bits: of these numbers.

    Returns:
        By name, float32 of the same shape; only of layers that multiply whole rows (not depthwise,
        not transposed), and none where the recipe does not ask for it.
    """
    if not conversion.recipe.calibrate_weights:
        return {}
    name = graph.spec.name
    known: dict[tuple[str, int], Array] = conversion.once(f"{name} {CHOICES}", dict)
    moments: dict[str, Tensor] = conversion.once(f"{name} moments", dict)
    layers = {item: layer for item in names if (layer := _dense(graph.module, item)) is not None}
    if missing := {item: layer for item, layer in layers.items() if item not in moments}:
        moments |= _moments(graph, missing, conversion.samples)
    for item, layer in layers.items():
        if (item, bits) not in known:
            known[item, bits] = compensated(layer.weight.detach(), moments[item], bits).numpy()
    return {item: known[item, bits] for item in layers}


def choices(kept: Mapping[str, Any], graph: str) -> dict[str, Array]:
    """What `chosen_weights` has given by now for a graph of this name.

    Args:
        kept: of the conversions.
        graph: "encoder" or "decoder".
    """
    known: Mapping[tuple[str, int], Array] = kept.get(f"{graph} {CHOICES}", {})
    return {name: values for (name, _), values in known.items()}


def compensated(weight: Tensor, moment: Tensor, bits: int = 8) -> Tensor:
    """A weight on the grid of whole numbers of its outputs.

    Args:
        weight: (O, ...) float32.
        moment: (I, I) float64, mean of x x^T of what a row of the weight is multiplied with.
        bits: of the numbers; they are symmetric.

    Returns:
        float32 of the same shape. In every output the largest number is met, so that its scale
        can be told from it.
    """
    largest = 2 ** (bits - 1) - 1
    order = moment.diagonal().argsort(descending=True, stable=True)
    left = weight.flatten(1).double()[:, order]
    spread = error_spread(damped(moment)[order][:, order])
    peak = left.abs().argmax(1)
    scale = left.abs().amax(1) / largest
    scale[scale == 0] = 1
    ends = left.gather(1, peak[:, None]).sign()[:, 0] * largest
    chosen = torch.empty_like(left)
    for index in range(left.shape[1]):
        whole = (left[:, index] / scale).round().clamp(-largest, largest)
        whole = torch.where(peak == index, ends, whole)
        chosen[:, index] = whole * scale
        error = (left[:, index] - chosen[:, index]) / spread[index, index]
        left[:, index + 1 :] -= error[:, None] * spread[index, index + 1 :]
    return chosen[:, order.argsort()].float().reshape(weight.shape)


def damped(moment: Tensor) -> Tensor:
    """Second moments (I, I) with a little of every direction, so that they can be inverted."""
    size = float(moment.diagonal().mean()) or 1.0
    return moment + DAMPING * size * torch.eye(len(moment), dtype=moment.dtype)


def error_spread(moment: Tensor) -> Tensor:
    """What rounding one input asks of those still to come, so that products lose least.

    Args:
        moment: (I, I) float64, damped, in the order in which inputs are rounded.

    Returns:
        (I, I) upper triangular. Row i over its own diagonal: the part of the error of input i that
        each later one takes.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    spread: Tensor = torch.linalg.cholesky(inverse).T.contiguous()
    return spread


def _dense(module: nn.Module, name: str) -> nn.Linear | nn.Conv2d | None:
    """The layer with this weight, if each of its outputs is a product with all of its inputs."""
    owner, _, last = name.rpartition(".")
    layer = module.get_submodule(owner)
    dense = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    return layer if dense and last == "weight" else None  # type: ignore[return-value]


class Products(TorchFunctionMode):
    """While inside, what these weights are multiplied with is summed up, wherever that is done.

    A form may call a layer on tiles or in another order of axes, which its inputs do not tell.

    Attributes:
        sums: by the name of a weight, x x^T of rows that it is multiplied with.
        counts: of these rows.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = {id(layer.weight): name for name, layer in layers.items()}
        self.sums = {name: torch.zeros((), dtype=torch.float64) for name in layers}
        self.counts = dict.fromkeys(layers, 0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Of torch: each of its functions comes by here."""
        if func in {F.linear, F.conv2d} and (name := self.names.get(id(args[1]))):
            rows = args[0] if func is F.linear else _patches(*args, **(kwargs or {}))
            rows = rows.flatten(0, -2)
            rows = rows[:: len(rows) // ROWS | 1]
            self.sums[name] = self.sums[name] + (rows.T @ rows).double()
            self.counts[name] += len(rows)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _moments(
    graph: Graph, layers: Mapping[str, nn.Module], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Tensor]:
    """By weight, the mean of x x^T of what each is multiplied with, (I, I) float64."""
    with Products(layers) as found:
        for sample in samples:
            graph.module(*graph.module_inputs(sample))
    return {name: found.sums[name] / found.counts[name] for name in layers}


def _patches(  # noqa: PLR0913, PLR0917 the arguments of torch's convolution
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """(1, C, H, W) -> (1, places, C rows columns), in the order of a kernel's numbers."""
    return F.unfold(x, weight.shape[2:], dilation, padding, stride).movedim(1, -1)
