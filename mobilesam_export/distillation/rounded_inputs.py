"""What layers of an encoder take, rounded as a file rounds it.

The file's layers stand behind norms without scale and bias, and attention's values have no bias
there (`graphs.folding`). So what is rounded is found in the model by undoing these, and done again
behind the rounding.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mobilesam_export.backends.simulation import Inputs, Range
from mobilesam_export.contract import Array
from mobilesam_export.distillation.layerwise import Moments
from mobilesam_export.model import tiny_vit
from mobilesam_export.rounding import Seen

STEPS = 255  # of eight bits
LEAST_SCALE = 1e-12
Change = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class InputRounding:
    """Rounds what layers take.

    Attributes:
        layers: by name of a linear layer or convolution of the encoder, how.
        ranges: those that are fixed, by the same name; `observe` finds them.
    """

    layers: Mapping[str, Inputs]
    ranges: dict[str, Range] = field(default_factory=dict)

    @contextlib.contextmanager
    def applied(self, encoder: nn.Module) -> Iterator[None]:
        """While it is open, the encoder's layers take rounded values."""
        with _changed(encoder, self.layers, self._rounded):
            yield

    @torch.no_grad()
    def observe(self, encoder: nn.Module, images: Iterable[Tensor]) -> None:
        """Find the ranges that are fixed at export.

        Args:
            encoder: before training.
            images: what it takes, one after the other.
        """
        fixed = {name: inputs.fix for name, inputs in self.layers.items() if inputs.fix}
        seen = {name: Seen() for name in fixed}

        def note(name: str, value: Tensor) -> Tensor:
            seen[name].add(value)
            return value

        with _changed(encoder, fixed, note):
            for image in images if fixed else ():
                encoder(image)
        for name, fix in fixed.items():
            self.ranges[name] = seen[name].fixed(fix)

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        """The gradient is that of what was not clipped, as if nothing had been rounded."""
        if name in self.ranges:
            low, high = (torch.tensor(end, device=value.device) for end in self.ranges[name])
        else:
            low, high = value.detach().amin(), value.detach().amax()
        low, high = low.clamp_max(0).float(), high.clamp_min(0).float()
        scale = ((high - low) / STEPS).clamp_min(LEAST_SCALE)
        zero = (-low / scale).round()
        clipped = value.clamp(-zero * scale, (STEPS - zero) * scale)
        return clipped + ((clipped / scale).round() * scale - clipped).detach()


def second_moment(encoder: nn.Module, layer: str, moments: Moments) -> Array:
    """Of what a linear layer takes, as the export form has that.

    Args:
        encoder: of the layer.
        layer: its name.
        moments: of what it takes in the model.

    Returns:
        The mean of x x^T, (inputs, inputs) float64.
    """
    owner, norm = _owner_and_norm(encoder, layer)
    shift, scale = torch.zeros_like(moments.x), torch.ones_like(moments.x)
    if norm is not None:
        shift, scale = norm.bias.double(), norm.weight.double()
        scale = torch.where(scale == 0, 1, scale)
    elif isinstance(owner, tiny_vit.Attention):
        shift = _value_bias(owner).double()
    cross = torch.outer(moments.x / moments.count, shift)
    plain = moments.xx / moments.count - cross - cross.T + torch.outer(shift, shift)
    return np.asarray((plain / torch.outer(scale, scale)).cpu().numpy())


@contextlib.contextmanager
def _changed(encoder: nn.Module, layers: Iterable[str], change: Change) -> Iterator[None]:
    with contextlib.ExitStack() as hooks:
        for name in layers:
            hooks.enter_context(_attach(encoder, name, change))
        yield


def _attach(encoder: nn.Module, name: str, change: Change) -> RemovableHandle:
    """Let a layer take what `change` makes of its input, as the export form has that."""
    layer, (owner, norm) = encoder.get_submodule(name), _owner_and_norm(encoder, name)
    if norm is not None:

        def behind_norm(module: nn.LayerNorm, taken: tuple[Tensor], _: Tensor) -> Tensor:
            plain = F.layer_norm(taken[0], tuple(module.normalized_shape), eps=module.eps)
            return change(name, plain) * module.weight + module.bias

        return norm.register_forward_hook(behind_norm)

    def before(_: nn.Module, taken: tuple[Tensor]) -> Tensor:
        if isinstance(owner, tiny_vit.Attention):
            bias = _value_bias(owner)
            return change(name, taken[0] - bias) + bias
        return change(name, taken[0])

    return layer.register_forward_pre_hook(before)


def _owner_and_norm(encoder: nn.Module, name: str) -> tuple[nn.Module, nn.LayerNorm | None]:
    """The module that a layer is part of, and the LayerNorm that stands right before it."""
    owner, layer = encoder.get_submodule(name.rpartition(".")[0]), encoder.get_submodule(name)
    first = [getattr(owner, attribute, None) for attribute in ("qkv", "fc1")]
    norm = getattr(owner, "norm", None)
    return owner, norm if isinstance(norm, nn.LayerNorm) and layer in first else None


def _value_bias(attention: tiny_vit.Attention) -> Tensor:
    """(C), what attention's values have that does not depend on their tokens."""
    bias = attention.qkv.bias + attention.qkv.weight @ attention.norm.bias
    return bias.view(attention.heads, 3, -1)[:, 2].flatten()
