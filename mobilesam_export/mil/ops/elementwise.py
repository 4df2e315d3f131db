"""Arithmetic, comparison and logic, element by element, with numpy's broadcasting; and casts."""

import operator
from collections.abc import Callable

import torch
from torch import Tensor

from mobilesam_export.mil.kernels import op

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,  # halves to even
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,  # has the sign of y
    "pow": torch.pow,
    "floor_div": torch.floor_divide,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}
_CASTS = {
    "fp16": torch.float32,
    "fp32": torch.float32,
    "int8": torch.int32,
    "uint8": torch.int32,
    "int16": torch.int32,
    "uint16": torch.int32,
    "int32": torch.int32,
    "bool": torch.bool,
}


def _register_unary(kind: str, function: Callable[[Tensor], Tensor]) -> None:
    @op(kind)
    def unary(x: Tensor) -> Tensor:
        return function(x)


def _register_binary(kind: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @op(kind)
    def binary(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _kind, _unary in _UNARY.items():
    _register_unary(_kind, _unary)
for _kind, _binary in _BINARY.items():
    _register_binary(_kind, _binary)


@op("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """`x` / y. MIL does not say how integers are rounded, so they are refused."""
    if not x.is_floating_point():
        raise ValueError("division of integers is not defined")
    return x / y


@op("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@op("inverse")
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return torch.reciprocal(x + epsilon)


@op("log")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(x + epsilon)


@op("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """X, at least alpha and at most beta."""
    return x.clamp(alpha, beta)


@op("threshold")
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """X, at least alpha."""
    return torch.maximum(x, alpha)


@op("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """`x` in another type; a float becomes an integer by dropping its fraction."""
    if dtype not in _CASTS:
        raise ValueError(f"dtype {dtype!r} is unknown")
    if x.is_floating_point() and _CASTS[dtype] == torch.int32 and not _fits_int32(x):
        raise ValueError("a value that is not finite or beyond 32 bits has no integer")
    return x.to(_CASTS[dtype])


def _fits_int32(x: Tensor) -> bool:
    return bool((x.double().trunc().abs() < 2**31).all())


@op("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A where cond is true, b elsewhere."""
    return torch.where(cond, a, b)


@op("identity", exact=True)
def identity(x: Tensor) -> Tensor:
    """`x` itself."""
    return x
