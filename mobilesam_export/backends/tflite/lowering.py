"""Replacements for torch functions that the TFLite converter lowers badly.

While a `Lowering` is active, modules call these instead; the modules stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


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
    assert tuple(shape) == (x.shape[-1],)
    centered = x - x.mean(-1, keepdim=True)
    y = centered * torch.rsqrt((centered * centered).mean(-1, keepdim=True) + eps)
    return _affine(y, weight, bias)


def float16_layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The same where sums are float16, as on GPUs (LiteRT#9249): divided before it is summed.

    Of the neck's 256 channels the squares sum up to 320,000 (demo weights), and float16 ends at
    65,504; the mean of the squares, which comes out here, is 1,300.
    """
    assert tuple(shape) == (x.shape[-1],)
    centered = x - x.mean(-1, keepdim=True)
    part = centered * x.shape[-1] ** -0.5
    y = centered * torch.rsqrt((part * part).sum(-1, keepdim=True) + eps)
    return _affine(y, weight, bias)


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Without RELU_0_TO_1, for which no delegate has a kernel."""
    assert (low, high) == (0, 1)
    return 1 - F.relu(1 - F.relu(x))


REPLACED: Mapping[Any, Callable[..., Tensor]] = {F.layer_norm: layer_norm, Tensor.clamp: clamp}


class Lowering(TorchFunctionMode):
    """Within it, the functions of REPLACED are ours.

    Args:
        float16: whether the file is for a runtime that computes in float16.
    """

    def __init__(self, *, float16: bool) -> None:
        super().__init__()
        norm = float16_layer_norm if float16 else layer_norm
        self.replaced = {**REPLACED, F.layer_norm: norm}

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.replaced.get(function, function)(*args, **(kwargs or {}))
