"""Replacements for torch functions that XNNPACK, as ExecuTorch partitions it, does not take.

While a `Lowering` is active, modules call these instead; the modules stay as they are. Sums and
means over channels are products with a row of constants: of reductions the partitioner takes only
the mean over both sides of a map. Products of matrices have three axes: with four, torch expands
both operands, which is a copy that ends a partition.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mobilesam_export.graphs import norms

Index = slice | None
# Of tensors and numbers: a whole number would be stored as an integer and converted at each run.
ARITHMETIC = {
    getattr(Tensor, name)
    for operation in ("add", "sub", "mul", "div", "truediv")
    for name in (operation, f"__{operation}__", f"__r{operation}__")
    if hasattr(Tensor, name)
}


class Constants(nn.Module):
    """Rows and tensors of one value, each a buffer that is made once."""

    def forward(self, shape: Sequence[int], value: float) -> Tensor:
        """A constant of this shape and value."""
        name = f"c{'x'.join(map(str, shape))}_{value:.9g}".replace(".", "_")
        if name not in self._buffers:
            self.register_buffer(name, torch.full(tuple(shape), value))
        return self.get_buffer(name)


class Lowered(nn.Module):
    """A module that runs under `Lowering`. It must run once before it is traced.

    Constants that are made while a graph is traced would be operations of it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.constants = module, Constants()

    def forward(self, *inputs: Tensor) -> Any:
        with Lowering(self.constants):
            return self.module(*inputs)


class Lowering(TorchFunctionMode):
    """Within it, the functions of `replaced` are ours.

    Args:
        constants: that are there already, and get those that are not.
    """

    def __init__(self, constants: Constants) -> None:
        super().__init__()
        self.constants = constants
        self.replaced: Mapping[Any, Callable[..., Tensor]] = {
            F.layer_norm: self._layer_norm,
            norms.centered_norm: self._centered_norm,
            Tensor.sum: self._sum,
            torch.ones: self._ones,
            **dict.fromkeys((Tensor.__matmul__, Tensor.matmul, torch.matmul), matmul),
            Tensor.__getitem__: getitem,
            Tensor.clamp: clamp,
            Tensor.round: _round,
            Tensor.to: _to,
        }

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function in ARITHMETIC:
            args = tuple(float(arg) if isinstance(arg, int) else arg for arg in args)
        return self.replaced.get(function, function)(*args, **(kwargs or {}))

    def _mean(self, x: Tensor) -> Tensor:
        channels = x.shape[-1]
        return F.linear(x, self.constants((1, channels), 1 / channels))

    def _layer_norm(
        self,
        x: Tensor,
        shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        """LayerNorm over the last axis."""
        return self._centered_norm(x - self._mean(x), shape, weight, bias, eps)

    def _centered_norm(
        self,
        x: Tensor,
        shape: Sequence[int],
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        assert tuple(shape) == (x.shape[-1],)
        y = x * torch.rsqrt(self._mean(x * x) + eps)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    def _sum(self, x: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
        assert keepdim
        last = x.dim() - 1
        for axis in (dim,) if isinstance(dim, int) else dim:
            row = self.constants((1, x.shape[axis]), 1.0)
            if axis % x.dim() == last:
                x = F.linear(x, row)
            else:
                x = F.linear(x.transpose(axis, last), row).transpose(axis, last)
        return x

    def _ones(self, *shape: Any, **_: Any) -> Tensor:
        sizes = shape[0] if isinstance(shape[0], list | tuple) else shape
        constant: Tensor = self.constants(sizes, 1.0)
        return constant


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Products of matrices by three axes. (..., n, k) and (..., k, m) or (k, m) -> (..., n, m)."""
    shape = (*a.shape[:-1], b.shape[-1])
    if math.prod(b.shape[:-2]) == 1:  # one matrix for all
        y = torch.bmm(a.reshape(1, -1, a.shape[-1]), b.reshape(1, *b.shape[-2:]))
    else:
        y = torch.bmm(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))
    return y.reshape(shape)


def getitem(x: Tensor, index: Index | tuple[Index, ...]) -> Tensor:
    """Slices and new axes; a slice of a whole axis, which torch makes a copy of, is left out."""
    items = index if isinstance(index, tuple) else (index,)
    shape: list[int] = []
    y, axis = x, 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        start, end, step = item.indices(x.shape[axis])
        assert step == 1
        if end - start != x.shape[axis]:
            y = y.narrow(axis, start, end - start)
        shape.append(end - start)
        axis += 1
    return y.reshape(*shape, *x.shape[axis:]) if None in items else y


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Between 0 and 1."""
    assert (low, high) == (0, 1)
    return 1.0 - F.relu(1.0 - F.relu(x))


def _round(x: Tensor) -> Tensor:
    """To the nearest; a half goes up: what it is for, turns of an angle, is the same for both."""
    return torch.floor(x + 0.5)


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)
