"""Operations element by element, against numpy: activations, arithmetic, comparisons, casts."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilesam_export.errors import BackendError
from tests.mil_programs import Array, Var, check, few, mb, random, run

erf = np.vectorize(math.erf)
UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "identity": lambda x: x,
    "inverse": lambda x: 1 / (x + 1e-4),
    "log": np.log,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "round": np.round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sign": np.sign,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sin": np.sin,
    "sinh": np.sinh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}
POSITIVE = {"log", "rsqrt", "sqrt", "inverse"}
UNIT = {"acos", "asin", "atanh"}


@pytest.mark.parametrize("kind", UNARY)
def test_unary(kind: str) -> None:
    x: Array = random(3, 4) * 4
    x = np.abs(x) + 0.1 if kind in POSITIVE else np.tanh(x) * 0.9 if kind in UNIT else x
    check(lambda x: getattr(mb, kind)(x=x), UNARY[kind](x.astype(np.float64)), x=x)


def test_round_takes_halves_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    check(lambda x: mb.round(x=x), [np.array([0, 2, 2, 0, -2])], x=x)


@given(st.floats(1e-3, 1.0))
@few
def test_epsilons(epsilon: float) -> None:
    x = np.abs(random(5))
    eps = np.float32(epsilon)

    def build(x: Var) -> Var:
        return mb.rsqrt(x=x, epsilon=eps), mb.log(x=x, epsilon=eps), mb.inverse(x=x, epsilon=eps)

    check(build, [1 / np.sqrt(x + eps), np.log(x + eps), 1 / (x + eps)], x=x)


@given(st.floats(0.1, 2.0), st.floats(0.1, 2.0))
@few
def test_activations_with_parameters(a: float, b: float) -> None:
    x = random(2, 3, 4) * 3
    alpha, beta = np.float32(a), np.float32(b)

    def build(x: Var) -> Var:
        return (
            mb.clamped_relu(x=x, alpha=alpha, beta=beta),
            mb.elu(x=x, alpha=alpha),
            mb.leaky_relu(x=x, alpha=alpha),
            mb.linear_activation(x=x, alpha=alpha, beta=beta),
            mb.scaled_tanh(x=x, alpha=alpha, beta=beta),
            mb.sigmoid_hard(x=x, alpha=alpha, beta=beta),
            mb.thresholded_relu(x=x, alpha=alpha),
            mb.threshold(x=x, alpha=alpha),
            mb.clip(x=x, alpha=-alpha, beta=beta),
        )

    expected = [
        np.minimum(beta, np.where(x >= 0, x, alpha * x)),
        np.where(x > 0, x, alpha * (np.exp(x) - 1)),
        np.where(x > 0, x, alpha * x),
        alpha * x + beta,
        alpha * np.tanh(beta * x),
        np.clip(alpha * x + beta, 0, 1),
        np.where(x >= alpha, x, 0),
        np.maximum(x, alpha),
        np.minimum(np.maximum(x, -alpha), beta),
    ]
    check(build, expected, x=x)


def test_activations_with_parameters_for_each_channel() -> None:
    x, alpha, beta = random(2, 3, 4, 5), random(3, seed=1), random(3, seed=2)

    def build(x: Var) -> Var:
        return mb.prelu(x=x, alpha=alpha), mb.softplus_parametric(x=x, alpha=alpha, beta=beta)

    a, b = alpha.reshape(1, 3, 1, 1), beta.reshape(1, 3, 1, 1)
    check(build, [np.where(x > 0, x, a * x), a * np.log1p(np.exp(b * x))], x=x)


def test_gelu_modes() -> None:
    x = random(50) * 3

    def build(x: Var) -> Var:
        modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
        return tuple(mb.gelu(x=x, mode=mode) for mode in modes)

    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    exact = x * 0.5 * (1 + erf(x.astype(np.float64) / math.sqrt(2)))
    expected = [exact, 0.5 * x * (1 + np.tanh(inner)), x / (1 + np.exp(-1.702 * x))]
    check(build, expected, x=x)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((4, 1, 3), (2, 1)), ((1,), (2, 2))]


CASES = [(kind, dtype) for kind in BINARY for dtype in ("float32", "int32")]
CASES.remove(("real_div", "int32"))  # see test_division_of_integers_is_refused


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_binary(kind: str, dtype: str) -> None:
    x = [np.round(random(*first) * 4).astype(dtype) for first, _ in SHAPES]
    rounded = [np.round(random(*second, seed=1) * 4) for _, second in SHAPES]
    y = [np.where(numbers == 0, 3, numbers).astype(dtype) for numbers in rounded]

    def build(a: Var, b: Var, c: Var, d: Var) -> Var:
        pairs = zip((a, b, c, d), y, strict=True)
        return tuple(getattr(mb, kind)(x=one, y=other) for one, other in pairs)

    expected = [BINARY[kind](one, other) for one, other in zip(x, y, strict=True)]
    check(build, expected, a=x[0], b=x[1], c=x[2], d=x[3])


def test_pow() -> None:
    x, y = np.abs(random(3, 4)) + 0.1, random(4, seed=1)
    check(lambda x, y: mb.pow(x=x, y=y), x**y, x=x, y=y)


def test_division_of_integers_is_refused() -> None:
    x = np.array([7], np.int32)
    with pytest.raises(BackendError, match=r"op real_div .* integers"):
        run(lambda x, y: mb.real_div(x=x, y=y), {"x": x, "y": x})


def test_logic() -> None:
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])

    def build(x: Var, y: Var) -> Var:
        # bool inputs do not exist in Core ML; they are made inside
        x, y = mb.cast(x=x, dtype="bool"), mb.cast(x=y, dtype="bool")
        outputs = (
            mb.logical_and(x=x, y=y),
            mb.logical_or(x=x, y=y),
            mb.logical_xor(x=x, y=y),
            mb.logical_not(x=x),
            mb.select(cond=x, a=y, b=mb.logical_not(x=y)),
        )
        return tuple(mb.cast(x=output, dtype="int32") for output in outputs)

    expected = [x & y, x | y, x ^ y, ~x, np.where(x, y, ~y)]
    check(build, expected, x=x.astype(np.int32), y=y.astype(np.int32))


def test_casts_drop_the_fraction() -> None:
    x = np.array([1.9, -1.9, 0.0, 200.0], np.float32)

    def build(x: Var) -> Var:
        whole = mb.cast(x=x, dtype="int32")
        truth = mb.cast(x=x, dtype="bool")
        half = mb.cast(x=x, dtype="fp16")
        return whole, mb.cast(x=truth, dtype="fp32"), mb.cast(x=half, dtype="fp32")

    check(build, [[1, -1, 0, 200], [1, 1, 0, 1], x], x=x)


def test_a_cast_out_of_range_is_refused() -> None:
    x = np.array([200.0], np.float32)
    with pytest.raises(BackendError, match="leaves the range of int8"):
        run(lambda x: mb.cast(x=mb.cast(x=x, dtype="int8"), dtype="fp32"), {"x": x})


@pytest.mark.parametrize("number", [np.nan, np.inf, 2.0**31, -3e9])
def test_a_cast_of_what_is_no_integer_is_refused(number: float) -> None:
    with pytest.raises(BackendError, match=r"op cast .* has no integer"):
        run(lambda x: mb.cast(x=x, dtype="int32"), {"x": np.array([number], np.float32)})


# --- 8-bit activations


@given(st.data(), st.sampled_from(["int8", "uint8"]), st.integers(0, 2))
@few
def test_quantize_and_dequantize(data: st.DataObject, dtype: str, axis: int) -> None:
    x, limits = random(2, 3, 4) * 20, np.iinfo(dtype)
    count = x.shape[axis]
    scales, zeros = st.floats(0.0625, 1, width=32), st.integers(int(limits.min), int(limits.max))
    scale = np.array([data.draw(scales) for _ in range(count)], np.float32)
    zero = np.array([data.draw(zeros) for _ in range(count)], dtype)
    # One scale and zero point, or one for each entry of an axis; with a zero point and without.
    single = {"scale": scale[0], "zero_point": zero[0]}
    vector = {"scale": scale, "zero_point": zero, "axis": np.int32(axis)}
    every: list[dict[str, Any]] = [single, vector]
    every += [{k: v for k, v in o.items() if k != "zero_point"} for o in every]

    def build(x: Var) -> Var:
        outputs = []
        for options in every:
            numbers = mb.quantize(input=x, output_dtype=dtype, **options)
            outputs += [mb.cast(x=numbers, dtype="fp32"), mb.dequantize(input=numbers, **options)]
        return tuple(outputs)

    expected = []
    for options in every:
        shape = [-1 if a == axis and "axis" in options else 1 for a in range(3)]
        s = options["scale"].reshape(shape)
        z = np.float32(options.get("zero_point", 0)).reshape(shape)
        numbers = np.clip(np.round(x / s) + z, limits.min, limits.max)
        expected += [numbers, (numbers - z) * s]
    check(build, expected, x=x)
