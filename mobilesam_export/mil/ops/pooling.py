"""Pooling over one to three spatial axes of x (N, C, ...)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op
from mobilesam_export.mil.padding import spatial_padding, torch_padding

_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@op("max_pool", exact=True)
def max_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest element of each window."""
    windows = _Windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return windows.crop(windows.pooled(_MAX, windows.padded(x, -math.inf)))


@op("avg_pool")
def avg_pool(  # noqa: PLR0913, PLR0917 - MIL's parameters
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Mean of each window; what ceil_mode adds at the end never counts, as in PyTorch."""
    windows = _Windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return windows.mean(x, counts_padding=not exclude_padding_from_average)


@op("l2_pool")
def l2_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: str,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Root of the sum of squares of each window."""
    windows = _Windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    means = windows.crop(windows.pooled(_MEAN, windows.padded(x.square(), 0)))
    return (means * math.prod(kernel_sizes)).sqrt()


class _Windows:
    """The positions of the windows of one pooling."""

    def __init__(
        self,
        x: Tensor,
        kernel: list[int],
        strides: list[int] | None,
        pad_type: str,
        pad: list[int] | None,
        ceil_mode: bool,
    ) -> None:
        self.kernel = kernel
        self.strides = strides or [1] * len(kernel)
        sizes = list(x.shape[2:])
        self.pad = spatial_padding(pad_type, pad, sizes, kernel, self.strides)
        self.outputs = [
            _output_size(size, self.kernel[i], self.strides[i], self.pad[i], ceil_mode)
            for i, size in enumerate(sizes)
        ]
        # Behind the padding: what the last window needs beyond it.
        needed = [
            (n - 1) * s + k for n, s, k in zip(self.outputs, self.strides, kernel, strict=True)
        ]
        self.extra = [
            (0, max(0, need - size - sum(pads)))
            for need, size, pads in zip(needed, sizes, self.pad, strict=True)
        ]

    def padded(self, x: Tensor, value: float) -> Tensor:
        both = [(a + c, b + d) for (a, b), (c, d) in zip(self.pad, self.extra, strict=True)]
        return F.pad(x, torch_padding(both), value=value) if any(map(any, both)) else x

    def pooled(self, functions: dict[int, Callable[..., Tensor]], x: Tensor) -> Tensor:
        return functions[len(self.kernel)](x, self.kernel, self.strides)

    def crop(self, x: Tensor) -> Tensor:
        for axis, size in enumerate(self.outputs):
            x = x.narrow(axis + 2, 0, size)
        return x

    def mean(self, x: Tensor, counts_padding: bool) -> Tensor:
        sums = self.pooled(_MEAN, self.padded(x, 0))
        ones = torch.ones(1, 1, *x.shape[2:])
        if counts_padding:
            ones = F.pad(ones, torch_padding(self.pad), value=1)
            ones = F.pad(ones, torch_padding(self.extra))
        else:
            ones = self.padded(ones, 0)
        return self.crop(sums) / self.crop(self.pooled(_MEAN, ones))


def _output_size(size: int, kernel: int, stride: int, pad: tuple[int, int], ceil_mode: bool) -> int:
    room = size + sum(pad) - kernel
    if not ceil_mode:
        return room // stride + 1
    if pad[0] != pad[1]:
        raise ValueError("ceil_mode with different padding before and after is not defined")
    count = -(-room // stride) + 1
    if (count - 1) * stride < size + pad[0]:
        return count
    if not pad[0]:  # PyTorch leaves such a window out, coremltools declares it
        raise ValueError("ceil_mode with a window that starts behind the input is not defined")
    return count - 1
