"""Reductions along axes (all of them where no axes are given), and orderings."""

from collections.abc import Callable

import torch
from torch import Tensor

from mobilesam_export.mil.kernels import op


def _prod(x: Tensor, axes: list[int], keep_dims: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep_dims, dtype=x.dtype)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_max": torch.amax,
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_min": torch.amin,
    "reduce_prod": _prod,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype),
}
_INDEX_DTYPES = ("int32", "uint16")


def _register(kind: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @op(kind)
    def reduction(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
        return function(x, list(range(x.dim())) if axes is None else axes, keep_dims)


for _kind, _function in _REDUCTIONS.items():
    _register(_kind, _function)


@op("reduce_argmax")
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """Index of the largest element along `axis`, the first if there are several."""
    _check_index_dtype(output_dtype)
    return torch.argmax(x, axis, keepdim=keep_dims)


@op("reduce_argmin")
def reduce_argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """Index of the smallest element along `axis`, the first if there are several."""
    _check_index_dtype(output_dtype)
    return torch.argmin(x, axis, keepdim=keep_dims)


@op("argsort")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Indices that sort x along `axis`; equal elements keep their order."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices


@op("topk")
def topk(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> list[Tensor]:
    """The k largest elements along `axis` (smallest, if ascending), sorted, and their indices."""
    _check_index_dtype(output_indices_dtype)
    if not sort:
        raise ValueError("sort = False leaves the order open")
    ordered = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    parts = [ordered.values.narrow(axis, 0, k), ordered.indices.narrow(axis, 0, k)]
    return parts if return_indices else parts[:1]


@op("cumsum")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sums along `axis`; exclusive: without the element itself; reverse: from the end."""
    ordered = x.flip(axis) if reverse else x
    sums = ordered.cumsum(axis, dtype=x.dtype)
    if exclusive:
        sums = sums - ordered
    return sums.flip(axis) if reverse else sums


def _check_index_dtype(dtype: str) -> None:
    if dtype not in _INDEX_DTYPES:
        raise ValueError(f"dtype {dtype!r} of indices is unknown")
