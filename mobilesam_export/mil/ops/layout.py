"""Operations that move elements and compute none: shapes, order of axes, joining, padding."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op
from mobilesam_export.mil.padding import Pads, torch_padding


@op("reshape", exact=True)
def reshape(x: Tensor, shape: list[int]) -> Tensor:
    """`x` in another shape; 0 keeps the size of that axis, -1 is what is left."""
    if 0 in shape and len(shape) != x.dim():
        raise ValueError(f"shape {shape} has a 0 but another rank than {tuple(x.shape)}")
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape)])


@op("transpose", exact=True)
def transpose(x: Tensor, perm: list[int]) -> Tensor:
    """`x` with its axes in another order."""
    return x.permute(perm)


@op("expand_dims", exact=True)
def expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    """`x` with axes of size 1 added; `axes` are places in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("squeeze", exact=True)
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """`x` without these axes (all by default) where their size is 1."""
    return x.squeeze(tuple(range(x.dim())) if axes is None else tuple(axes))


@op("flatten2d", exact=True)
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """`x` as a matrix: the axes before `axis` and the others."""
    split = axis if axis >= 0 else axis + x.dim()
    rows = x.shape[:split].numel()
    return x.reshape(rows, x.numel() // rows)


@op("concat", exact=True)
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """Tensors joined along `axis`; if interleaved, their elements alternate."""
    if not interleave:
        return torch.cat(values, axis)
    place = axis % values[0].dim()
    return torch.stack(values, place + 1).flatten(place, place + 1)


@op("stack", exact=True)
def stack(values: list[Tensor], axis: int) -> Tensor:
    """Tensors joined along a new axis."""
    return torch.stack(values, axis)


@op("split", exact=True)
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> list[Tensor]:
    """`x` cut along `axis`, into these sizes or into equal parts."""
    if split_sizes is not None:
        return list(torch.split(x, split_sizes, axis))
    if not num_splits or x.shape[axis] % num_splits:
        raise ValueError(f"{x.shape[axis]} cannot be split into {num_splits} equal parts")
    return list(torch.split(x, x.shape[axis] // num_splits, axis))


@op("tile", exact=True)
def tile(x: Tensor, reps: list[int]) -> Tensor:
    """`x` repeated along each axis."""
    return x.repeat(reps)


@op("reverse", exact=True)
def reverse(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """`x` in the opposite order along these axes, all by default."""
    return x.flip(list(range(x.dim())) if axes is None else axes)


@op("pad")
def pad(x: Tensor, pad: list[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """`x` with more before and after its last len(pad) / 2 axes, the first of them first."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        return F.pad(x, torch_padding(pairs), value=constant_val)
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"mode {mode!r} is unknown")
    return _pad_from_inside(x, pairs, mode)


def _pad_from_inside(x: Tensor, pairs: Pads, mode: str) -> Tensor:
    for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
        last = x.shape[axis] - 1
        if mode == "reflect" and max(before, after) > last:
            raise ValueError(f"reflection of {max(before, after)} on an axis of size {last + 1}")
        places = torch.arange(-before, last + 1 + after)
        if mode == "reflect":
            places = last - (last - places.abs()).abs()
        x = x.index_select(axis, places.clamp(0, last))
    return x


@op("depth_to_space", exact=True)
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """(N, b * b * C, H, W) -> (N, C, H * b, W * b); the channels are counted block first."""
    count, channels, height, width = x.shape
    b = block_size
    blocks = x.reshape(count, b, b, channels // (b * b), height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(count, -1, height * b, width * b)


@op("space_to_depth", exact=True)
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """(N, C, H * b, W * b) -> (N, b * b * C, H, W); the channels are counted block first."""
    count, channels, height, width = x.shape
    b = block_size
    blocks = x.reshape(count, channels, height // b, b, width // b, b)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, height // b, width // b)


@op("pixel_shuffle", exact=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(N, C * f * f, H, W) -> (N, C, H * f, W * f), as PyTorch's."""
    return F.pixel_shuffle(x, upscale_factor)


@op("pixel_unshuffle", exact=True)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """(N, C, H * f, W * f) -> (N, C * f * f, H, W), as PyTorch's."""
    return F.pixel_unshuffle(x, downscale_factor)


@op("sliding_windows", exact=True)
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """Sliding windows of `size` along `axis`: that axis becomes (windows, size)."""
    place = axis % x.dim()
    return x.unfold(place, size, stride).movedim(-1, place + 1)
