"""Where the numbers of an encoder in export form come from in the model.

The export form folds norms into the layers beside them and cuts weights into parts. Each of its
numbers is still one number of the model times a factor that depends on norms alone. Both are found
by folding a model that has positions for weights, so that no layout need be known here.
"""

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobilesam_export.checkpoint.weight_sets import is_unused
from mobilesam_export.graphs import names
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.model import Sam
from mobilesam_export.target import GraphForm

DIGIT = 4096  # positions are folded in two digits, each exact in float32 whatever the factor
ENCODER = "image_encoder."


@dataclass(frozen=True)
class Origin:
    """Of one weight of the export form: value = factor x the parameter's number at index.

    Attributes:
        parameter: its name in the encoder.
        index: int64, flat positions in the parameter; None where the weight is all of it, in order.
        factor: float32, of the weight's shape; 0 where a norm takes no notice of a channel.
    """

    parameter: str
    index: Tensor | None
    factor: Tensor

    def read(self, parameter: Tensor) -> Tensor:
        """The weight in export form."""
        return self._numbers(parameter) * self.factor

    def write(self, parameter: Tensor, weight: Tensor) -> None:
        """Give the parameter, in place, the numbers from which this weight is folded."""
        numbers = torch.where(self.factor == 0, self._numbers(parameter), weight / self.factor)
        if self.index is None:
            parameter.copy_(numbers.view(parameter.shape))
        else:
            parameter.view(-1).scatter_(0, self.index.flatten(), numbers.flatten())

    def to(self, device: torch.device) -> "Origin":
        """The same on another device."""
        index = None if self.index is None else self.index.to(device)
        return Origin(self.parameter, index, self.factor.to(device))

    def _numbers(self, parameter: Tensor) -> Tensor:
        if self.index is None:
            return parameter.view(self.factor.shape)
        return parameter.view(-1)[self.index]


def find_origins(sam: Sam, form: GraphForm, wanted: Collection[str]) -> dict[str, Origin]:
    """The origin of each of these weights of the export form, by its name there.

    Args:
        sam: on the CPU; its norms are read, and are not to change afterwards.
        form: of the graph.
        wanted: names of weights of two and more axes.
    """
    shapes = _parameters(sam.image_encoder)
    starts, total = dict[str, int](), 1
    for key, tensor in shapes.items():
        starts[key], total = total, total + tensor.numel()

    def positions(name: str) -> Tensor:
        return torch.arange(starts[name], starts[name] + shapes[name].numel())

    factors = _folded(sam, form, lambda name: torch.ones(shapes[name].numel()))
    high = _folded(sam, form, lambda name: positions(name) // DIGIT)
    low = _folded(sam, form, lambda name: positions(name) % DIGIT)
    found = {}
    for name in wanted:
        factor = factors[name]
        used = torch.where(factor == 0, 1, factor)
        digits = [(part[name] / used).round().long() for part in (high, low)]
        place = torch.where(factor == 0, 1, digits[0] * DIGIT + digits[1])
        smallest = int(place[factor != 0].min()) if (factor != 0).any() else 1
        parameter = max((k for k in starts if starts[k] <= smallest), key=lambda k: starts[k])
        count = shapes[parameter].numel()
        index = (place - starts[parameter]).clamp(0, count - 1)
        whole = torch.equal(index.flatten(), torch.arange(count))
        found[name] = Origin(parameter, None if whole else index, factor)
    return found


def _parameters(encoder: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter
        for name, parameter in encoder.named_parameters()
        if parameter.ndim >= 2 and not is_unused(ENCODER + name)
    }


@torch.no_grad()
def _folded(sam: Sam, form: GraphForm, fill: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Weights of the export form of a model with other numbers in its layers."""
    filled = copy.deepcopy(sam)
    for name, parameter in _parameters(filled.image_encoder).items():
        parameter.copy_(fill(name).reshape(parameter.shape))
    with torch.random.fork_rng(devices=[]):
        return names.weights(Encoder(filled, form))
