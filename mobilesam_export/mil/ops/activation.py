"""Activations, element by element, and softmax. T is float16 or float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilesam_export.mil.kernels import op


@op("relu", exact=True)
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


@op("relu6")
def relu6(x: Tensor) -> Tensor:
    """`x` between 0 and 6."""
    return F.relu6(x)


@op("clamped_relu")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x is not negative, min(beta, alpha * x) elsewhere."""
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


@op("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is at least alpha, 0 elsewhere."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@op("leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is not negative, alpha * x elsewhere."""
    return torch.where(x >= 0, x, alpha * x)


@op("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """leaky_relu with an alpha (C) for each channel of x (N, C, ...)."""
    return torch.where(x >= 0, x, per_channel(alpha, x) * x)


@op("elu")
def elu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is positive, alpha * (exp(x) - 1) elsewhere."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@op("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """`x` times the normal distribution function of x, or one of MIL's two approximations."""
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise ValueError(f"mode {mode!r} is unknown")


@op("silu")
def silu(x: Tensor) -> Tensor:
    """`x` * sigmoid(x)."""
    return F.silu(x)


@op("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@op("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * x + beta` between 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


@op("linear_activation")
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * x + beta`."""
    return alpha * x + beta


@op("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * tanh(beta * x)`."""
    return alpha * torch.tanh(beta * x)


@op("softplus")
def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return torch.logaddexp(x, torch.zeros_like(x))


@op("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`alpha * log(1 + exp(beta * x))`, with alpha and beta (C) for the channels of `x`."""
    scaled = per_channel(beta, x) * x
    return per_channel(alpha, x) * torch.logaddexp(scaled, torch.zeros_like(x))


@op("softsign")
def softsign(x: Tensor) -> Tensor:
    """`x` / (1 + |x|)."""
    return F.softsign(x)


@op("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) over its sum along `axis`."""
    return torch.softmax(x, axis)


def per_channel(vector: Tensor, x: Tensor) -> Tensor:
    """(C) -> (1, C, 1, ...), to be combined with x (N, C, ...)."""
    return vector.reshape(1, -1, *[1] * (x.dim() - 2))
