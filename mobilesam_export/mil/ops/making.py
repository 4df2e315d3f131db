"""Operations that create tensors from shapes and scalars."""

import torch
from torch import Tensor

from mobilesam_export.mil.kernels import op


@op("shape")
def shape(x: Tensor) -> Tensor:
    """Sizes of the axes of x."""
    return torch.tensor(x.shape, dtype=torch.int32)


@op("fill", exact=True)
def fill(shape: list[int], value: Tensor | None = None) -> Tensor:
    """A tensor filled with one value, 0.0 by default."""
    return (torch.tensor(0.0) if value is None else value).expand(shape)


@op("fill_like", exact=True)
def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """A tensor of the shape of ref_tensor filled with one value, 0.0 by default."""
    return (torch.tensor(0.0) if value is None else value).expand(ref_tensor.shape)


@op("range_1d")
def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... up to but without end."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@op("one_hot", exact=True)
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """on_value (1) where the place on the new axis is the index, off_value (0) elsewhere."""
    on = torch.tensor(1, dtype=torch.int32) if on_value is None else on_value
    off = torch.tensor(0, dtype=torch.int32) if off_value is None else off_value
    if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= one_hot_vector_size):
        raise ValueError("an index outside of the vector is not defined")
    hot = indices[..., None] == torch.arange(one_hot_vector_size)
    return torch.where(hot, on, off).movedim(-1, axis)


@op("band_part", exact=True)
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """`x` (..., M, N), 0 beyond `lower` diagonals below and `upper` above; negative keeps all."""
    rows = torch.arange(x.shape[-2])[:, None]
    columns = torch.arange(x.shape[-1])
    mask = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        mask &= rows - columns <= lower
    if upper >= 0:
        mask &= columns - rows <= upper
    return torch.where(mask, x, torch.zeros_like(x))
