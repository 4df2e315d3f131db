"""Normalisations. Statistics are of float32, as everything inside an operation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op
from mobilesam_export.mil.ops.activation import per_channel


@op("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`x` (N, C, ...) minus mean, over the root of variance, times gamma, plus beta (C)."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


@op("instance_norm")
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """`x` (N, C, ...) normalised over each image's channel, times gamma, plus beta (C)."""
    spatial = list(range(2, x.dim()))
    centered = x - x.mean(spatial, keepdim=True)
    result = centered * torch.rsqrt(centered.square().mean(spatial, keepdim=True) + epsilon)
    if gamma is not None:
        result = result * per_channel(gamma, x)
    return result if beta is None else result + per_channel(beta, x)


@op("layer_norm")
def layer_norm(
    x: Tensor,
    axes: list[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`x` normalised over `axes` (all by default); gamma and beta have the sizes of those axes."""
    places = sorted(axis % x.dim() for axis in axes) if axes is not None else list(range(x.dim()))
    shape = [x.shape[axis] for axis in places]
    last = list(range(x.dim() - len(places), x.dim()))
    permuted = torch.movedim(x, places, last)
    return torch.movedim(F.layer_norm(permuted, shape, gamma, beta, epsilon), last, places)


@op("l2_norm")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """`x` over the root of the sum of squares (and epsilon) of its last three axes."""
    return x * torch.rsqrt(x.square().sum([-3, -2, -1], keepdim=True) + epsilon)


@op("local_response_norm")
def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """`x` (N, C, ...) over (k + alpha * mean of squares of `size` channels around) ** beta."""
    if size % 2 == 0:
        raise ValueError(f"size {size} is even, and which channels that takes is not defined")
    return F.local_response_norm(x, size, alpha, beta, k)
