"""Resizing and cropping of the last two axes, height and width."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op


@op("upsample_nearest_neighbor", exact=True)
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    """`x` (..., H, W) enlarged: output pixel i is input pixel floor(i / factor)."""
    size = _scaled(x, scale_factor_height, scale_factor_width)
    return _interpolate(x, size, "nearest")


@op("resize_nearest_neighbor", exact=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """`x` (..., H, W) enlarged by integer factors; MIL does not define how others round."""
    return _nearest(x, (target_size_height, target_size_width))


@op("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """`x` (..., H, W) enlarged; the factor that counts is output size / input size."""
    size = _scaled(x, scale_factor_height, scale_factor_width)
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    modes = {(True, False): "STRICT_ALIGN_CORNERS", (False, True): "UNALIGN_CORNERS"}
    modes[False, False] = "DEFAULT"
    if (align_corners, half) not in modes:
        raise ValueError("align_corners together with half_pixel_centers is not defined")
    return _bilinear(x, size, modes[align_corners, half])


@op("resize_bilinear")
def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """`x` (..., H, W) -> (..., target_size_height, target_size_width)."""
    return _bilinear(x, (target_size_height, target_size_width), sampling_mode)


@op("resize")
def resize(
    x: Tensor,
    shape: list[int],
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """`x` (..., H, W) to the last two sizes in `shape`; 0 keeps a size."""
    if resized_dims != 2:
        raise ValueError(f"resized_dims {resized_dims} is unknown; expected 2")
    height, width = (size or x.shape[axis] for axis, size in zip((-2, -1), shape[-2:], strict=True))
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return _nearest(x, (height, width))
    if interpolation_mode != "LINEAR":
        raise ValueError(f"interpolation_mode {interpolation_mode!r} is unknown")
    return _bilinear(x, (height, width), sampling_mode)


@op("crop", exact=True)
def crop(x: Tensor, crop_height: list[int], crop_width: list[int]) -> Tensor:
    """`x` (..., H, W) without so many rows and columns at the beginning and at the end."""
    height, width = x.shape[-2:]
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : height - bottom, left : width - right]


def _scaled(x: Tensor, height: float, width: float) -> tuple[int, int]:
    return int(x.shape[-2] * height), int(x.shape[-1] * width)


def _nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    if any(new % old for new, old in zip(size, x.shape[-2:], strict=True)):
        raise ValueError(f"from {tuple(x.shape[-2:])} to {size} by nearest neighbor is not defined")
    return _interpolate(x, size, "nearest")


def _interpolate(x: Tensor, size: tuple[int, int], mode: str, align: bool | None = None) -> Tensor:
    flat = x.reshape(1, -1, *x.shape[-2:])
    return F.interpolate(flat, size, mode=mode, align_corners=align).reshape(*x.shape[:-2], *size)


def _bilinear(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if mode == "UNALIGN_CORNERS":
        return _interpolate(x, size, "bilinear", align=False)
    for axis, count in zip((-2, -1), size, strict=True):
        x = _linear(x, axis, _sampled(x.shape[axis], count, mode))
    return x


def _linear(x: Tensor, axis: int, places: Tensor) -> Tensor:
    """`x` at fractional places along one axis."""
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (places - low).to(x.dtype).reshape([-1, *[1] * (-axis - 1)])
    return x.index_select(axis, low) * (1 - weight) + x.index_select(axis, high) * weight


def _sampled(size: int, count: int, mode: str) -> Tensor:
    """(count) places in the input, 0..size - 1, of the output's pixels; the rules are MIL's."""
    index = torch.arange(count, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and count == 1:
        return (index + (size - 1)) / 2
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        places = index * (size - 1) / max(1, count - 1)
    elif mode == "DEFAULT":
        places = index * size / count
    elif mode == "OFFSET_CORNERS":
        places = (index + 0.5) * max(1, size - 1) / count
    else:
        raise ValueError(f"sampling_mode {mode!r} is unknown")
    return places.clamp(0, size - 1)
