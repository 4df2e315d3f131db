"""Replacements for torch functions that the TFLite converter lowers badly.

While a `Lowering` is active, modules call these instead; the modules stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mobilesam_export.graphs import norms


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """LayerNorm over the last axis on a tensor as it is.

    The converter's own flattens to (1, N, C) and back, and makes vectors of N between.
    """
    return centered_norm(x - x.mean(-1, keepdim=True), shape, weight, bias, eps)


def float16_layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The same where sums are float16; see `float16_centered_norm`."""
    return float16_centered_norm(x - x.mean(-1, keepdim=True), shape, weight, bias, eps)


def centered_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """`norms.centered_norm` without a mean."""
    assert tuple(shape) == (x.shape[-1],)
    return _affine(x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps), weight, bias)


def float16_centered_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """The same where sums are float16, as on GPUs (LiteRT#9249): divided before it is summed.

    Of the neck's 256 channels the squares sum up to 320,000 (demo weights), and float16 ends at
    65,504; the mean of the squares, which comes out here, is 1,300.
    """
    assert tuple(shape) == (x.shape[-1],)
    part = x * x.shape[-1] ** -0.5
    return _affine(x * torch.rsqrt((part * part).sum(-1, keepdim=True) + eps), weight, bias)


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Without RELU_0_TO_1, for which no delegate has a kernel."""
    assert (low, high) == (0, 1)
    return 1 - F.relu(1 - F.relu(x))


REPLACED: Mapping[Any, Callable[..., Tensor]] = {
    F.layer_norm: layer_norm,
    norms.centered_norm: centered_norm,
    Tensor.clamp: clamp,
}
FLOAT16: Mapping[Any, Callable[..., Tensor]] = {
    **REPLACED,
    F.layer_norm: float16_layer_norm,
    norms.centered_norm: float16_centered_norm,
}


class Lowering(TorchFunctionMode):
    """Within it, the functions of REPLACED are ours.

    Args:
        float16: whether the file is for a runtime that computes in float16.
    """

    def __init__(self, *, float16: bool) -> None:
        super().__init__()
        self.replaced = FLOAT16 if float16 else REPLACED

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.replaced.get(function, function)(*args, **(kwargs or {}))
