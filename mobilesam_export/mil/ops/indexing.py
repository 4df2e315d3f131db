"""Slices, gathers and scatters. A negative index counts from the end."""

import torch
from torch import Tensor

from mobilesam_export.mil.kernels import op


@op("slice_by_index", exact=True)
def slice_by_index(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """x[begin:end:stride] along each axis.

    Args:
        x: any tensor.
        begin: first index of each axis.
        end: index after the last of each axis.
        stride: 1 by default.
        begin_mask: true where begin is ignored, and the slice starts at the edge.
        end_mask: true where end is ignored, and the slice goes to the edge.
        squeeze_mask: true where only index begin is taken, and the axis goes away.
    """
    rank = x.dim()
    no = [False] * rank
    steps, open_begin, open_end = stride or [1] * rank, begin_mask or no, end_mask or no
    squeeze = squeeze_mask or no
    for axis in reversed(range(rank)):
        if squeeze[axis]:
            x = x.select(axis, begin[axis])
            continue
        first = None if open_begin[axis] else begin[axis]
        last = None if open_end[axis] else end[axis]
        x = _sliced(x, axis, slice(first, last, steps[axis]))
    return x


def _sliced(x: Tensor, axis: int, part: slice) -> Tensor:
    start, stop, step = part.indices(x.shape[axis])
    if step > 0:
        return x[(slice(None),) * axis + (slice(start, max(start, stop), step),)]
    # torch takes no negative steps
    return x.index_select(axis, torch.tensor(list(range(start, stop, step)), dtype=torch.int64))


@op("slice_by_size", exact=True)
def slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """`size` elements from `begin` along each axis; size -1 takes all up to the end."""
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        start = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


@op("slice_update", exact=True)
def slice_update(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    update: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """`x` with the slice that slice_by_index would take replaced by `update`."""
    places = torch.arange(x.numel()).reshape(x.shape)
    taken = slice_by_index(places, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.reshape(-1).clone()
    result[taken.reshape(-1)] = update.expand(taken.shape).reshape(-1)
    return result.reshape(x.shape)


@op("gather", exact=True)
def gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    """Slices of x along `axis`, whose places are `indices`; the first batch_dims axes are common.

    Returns:
        x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:].
    """
    del validate_indices  # they always are, by torch
    place = axis % x.dim()
    rest = indices.dim() - batch_dims
    picked = x.movedim(place, batch_dims)[(*_grid(indices, batch_dims), indices.long())]
    sources = list(range(batch_dims, batch_dims + rest))
    return picked.movedim(sources, list(range(place, place + rest)))


@op("gather_along_axis", exact=True)
def gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    """Numbers of x (..., n, ...) at `indices` (..., m, ...) along `axis`."""
    del validate_indices
    return x.gather(axis, _counted_from_start(indices, x.shape[axis]))


@op("gather_nd", exact=True)
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Slices of x at `indices` (..., k), each row of which is a place on k axes."""
    del validate_indices
    row = indices.long().unbind(-1)
    return x[(*_grid(indices[..., 0], batch_dims), *row)]


@op("scatter_nd")
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """`data` with `updates` put, or added, at `indices` (..., k)."""
    del validate_indices
    if mode not in ("add", "update"):
        raise ValueError(f"mode {mode!r} is unknown")
    rows = tuple(indices.long().unbind(-1))
    if mode == "update" and _repeats(indices):
        raise ValueError("mode 'update' with repeated indices leaves open which update stays")
    return data.index_put(rows, updates, accumulate=mode == "add")


@op("scatter_along_axis")
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """`data` with `updates` added at `indices` along `axis`."""
    del validate_indices
    if mode != "add":
        raise ValueError(f"mode {mode!r} is unknown")
    return data.scatter_add(axis, _counted_from_start(indices, data.shape[axis]), updates)


@op("non_zero")
def non_zero(x: Tensor) -> Tensor:
    """Indices of the nonzero elements, (count, rank), in row-major order."""
    return x.nonzero()


def _grid(indices: Tensor, batch_dims: int) -> list[Tensor]:
    """For each batch axis its own index, in a shape that goes with `indices`."""
    return [
        torch.arange(indices.shape[axis]).reshape(-1, *[1] * (indices.dim() - axis - 1))
        for axis in range(batch_dims)
    ]


def _counted_from_start(indices: Tensor, size: int) -> Tensor:
    places = indices.long()
    return torch.where(places < 0, places + size, places)


def _repeats(indices: Tensor) -> bool:
    rows = indices.reshape(-1, indices.shape[-1])
    return len(torch.unique(rows, dim=0)) < len(rows)
