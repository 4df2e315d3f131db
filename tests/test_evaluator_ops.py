"""Every operation against torch or numpy, over randomised attributes, through saved packages.

Where the kernel uses a torch function, the expected value comes from another formula or, where
that is hopeless (convolution), from the same function told the same thing in another way.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mobilesam_export.errors import BackendError
from mobilesam_export.evaluator.ops import KERNELS
from tests.test_evaluator import Array, Build, Var, mb, random, run

few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
booleans = st.booleans()


def check(build: Build, expected: Var, target: str = "iOS17", **inputs: Array) -> None:
    """The evaluator's outputs agree with the expected arrays to 1e-5."""
    found = run(build, inputs, target)
    wanted = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-5)
        assert one.shape == np.shape(other)


# --- element by element

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
    x = random(3, 4) * 4
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


@given(st.integers(-3, 2))
@few
def test_softmax(axis: int) -> None:
    x = random(2, 3, 4) * 20
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    check(lambda x: mb.softmax(x=x, axis=axis), e / e.sum(axis, keepdims=True), x=x)


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
    for first, second in SHAPES:
        x = np.round(random(*first) * 4).astype(dtype)
        y = np.round(random(*second, seed=1) * 4).astype(dtype)
        y = np.where(y == 0, 3, y).astype(dtype)
        check(lambda x, y: getattr(mb, kind)(x=x, y=y), BINARY[kind](x, y), x=x, y=y)


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
    with pytest.raises(BackendError, match=r"op cast .* becomes no integer"):
        run(lambda x: mb.cast(x=x, dtype="int32"), {"x": np.array([number], np.float32)})


# --- reductions

REDUCTIONS: dict[str, Callable[..., Array]] = {
    "reduce_l1_norm": lambda x, **kw: np.abs(x).sum(**kw),
    "reduce_l2_norm": lambda x, **kw: np.sqrt((x**2).sum(**kw)),
    "reduce_log_sum": lambda x, **kw: np.log(x.sum(**kw)),
    "reduce_log_sum_exp": lambda x, **kw: np.log(np.exp(x).sum(**kw)),
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **kw: (x**2).sum(**kw),
}


@pytest.mark.parametrize("kind", REDUCTIONS)
@given(st.none() | st.lists(st.integers(0, 2), min_size=1, unique=True), st.data())
@settings(few, max_examples=5)
def test_reductions(kind: str, axes: list[int] | None, data: st.DataObject) -> None:
    keep = data.draw(booleans)
    signed = None if axes is None else [a - 3 * data.draw(booleans) for a in axes]
    x = np.abs(random(2, 3, 4)) + 0.1
    wide = x.astype(np.float64)
    expected = REDUCTIONS[kind](wide, axis=None if axes is None else tuple(axes), keepdims=keep)
    check(lambda x: getattr(mb, kind)(x=x, axes=signed, keep_dims=keep), expected, x=x)


@given(st.integers(-3, 2), booleans, booleans)
@few
def test_indices_of_extremes_and_orders(axis: int, flag: bool, reverse: bool) -> None:
    x = np.random.default_rng(3).permutation(24).reshape(2, 3, 4).astype(np.float32)

    def build(x: Var) -> Var:
        return (
            mb.reduce_argmax(x=x, axis=axis, keep_dims=flag),
            mb.reduce_argmin(x=x, axis=axis, keep_dims=flag),
            mb.argsort(x=x, axis=axis, ascending=flag),
            *mb.topk(x=x, k=2, axis=axis, ascending=flag),
            mb.cumsum(x=x, axis=axis % 3, exclusive=flag, reverse=reverse),
        )

    order = np.argsort(x if flag else -x, axis)
    first = np.take(order, range(2), axis)
    ordered = np.flip(x, axis) if reverse else x
    sums = np.cumsum(ordered, axis) - (ordered if flag else 0)
    expected = [
        np.argmax(x, axis, keepdims=flag),
        np.argmin(x, axis, keepdims=flag),
        order,
        np.take_along_axis(x, first, axis),
        first,
        np.flip(sums, axis) if reverse else sums,
    ]
    check(build, expected, x=x)


# --- normalisations


@given(st.lists(st.integers(0, 3), min_size=1, unique=True), booleans, st.floats(1e-6, 1e-1))
@few
def test_layer_norm_over_any_axes(axes: list[int], affine: bool, epsilon: float) -> None:
    axes = sorted(axes)
    x = random(2, 3, 4, 5) * 2 + 1
    shape = [x.shape[a] for a in axes]
    gamma, beta = random(*shape, seed=1), random(*shape, seed=2)
    options = {"gamma": gamma, "beta": beta} if affine else {}
    wide = x.astype(np.float64)
    mean, var = wide.mean(tuple(axes), keepdims=True), wide.var(tuple(axes), keepdims=True)
    expected = (wide - mean) / np.sqrt(var + epsilon)
    if affine:
        full = [n if a in axes else 1 for a, n in enumerate(x.shape)]
        expected = expected * gamma.reshape(full) + beta.reshape(full)
    eps = np.float32(epsilon)
    check(lambda x: mb.layer_norm(x=x, axes=axes, epsilon=eps, **options), expected, x=x)


@given(booleans, st.floats(1e-6, 1e-1), st.integers(1, 2))
@few
def test_batch_and_instance_norm(affine: bool, epsilon: float, spatial: int) -> None:
    x = random(2, 3, *[5, 6][:spatial]) * 2 + 1
    mean, variance = random(3, seed=1), np.abs(random(3, seed=2)) + 0.1
    gamma, beta = random(3, seed=3), random(3, seed=4)
    options = {"gamma": gamma, "beta": beta} if affine else {}
    eps = np.float32(epsilon)

    def build(x: Var) -> Var:
        batch = mb.batch_norm(x=x, mean=mean, variance=variance, epsilon=eps, **options)
        return batch, mb.instance_norm(x=x, epsilon=eps, **options)

    def channel(v: Array) -> Array:
        return v.reshape(1, 3, *[1] * spatial)

    axes = tuple(range(2, x.ndim))
    wide = x.astype(np.float64)
    own_mean, own_var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    expected = [
        (wide - channel(mean)) / np.sqrt(channel(variance) + epsilon),
        (wide - own_mean) / np.sqrt(own_var + epsilon),
    ]
    if affine:
        expected = [e * channel(gamma) + channel(beta) for e in expected]
    check(build, expected, x=x)


def test_l2_norm_is_over_the_last_three_axes() -> None:
    x = random(2, 3, 4, 5)
    norm = np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 1e-3)
    check(lambda x: mb.l2_norm(x=x, epsilon=np.float32(1e-3)), x / norm, x=x)


@given(st.sampled_from([1, 3, 5]), st.floats(0.01, 1), st.floats(0.5, 2))
@few
def test_local_response_norm(size: int, alpha: float, k: float) -> None:
    x = random(1, 6, 4)
    padded = np.pad(x**2, ((0, 0), (size // 2, size // 2), (0, 0)))
    sums = sum(padded[:, i : i + 6] for i in range(size))

    def build(x: Var) -> Var:
        return mb.local_response_norm(x=x, size=size, alpha=np.float32(alpha), k=np.float32(k))

    check(build, x / (k + alpha / size * sums) ** 0.75, x=x)


# --- convolutions and products


def torch_(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in arrays]


def same_pads(size: int, window: int, stride: int, lower: bool) -> tuple[int, int]:
    outputs = math.ceil(size / stride)
    total = max(0, (outputs - 1) * stride + window - size)
    less, more = total // 2, math.ceil(total / 2)
    return (more, less) if lower else (less, more)


@given(st.data(), st.integers(1, 3), st.sampled_from(["valid", "same", "same_lower", "custom"]))
@settings(few, max_examples=25)
def test_conv(data: st.DataObject, rank: int, pad_type: str) -> None:
    sizes = [data.draw(st.integers(6, 9)) for _ in range(rank)]
    kernel, strides, dilations = (
        [data.draw(st.integers(1, most)) for _ in range(rank)] for most in (3, 3, 2)
    )
    groups = data.draw(st.sampled_from([1, 2, 4]))
    pad = [data.draw(st.integers(0, 3)) for _ in range(2 * rank)]
    bias = random(8, seed=2) if data.draw(booleans) else None
    x, weight = random(2, 4, *sizes), random(8, 4 // groups, *kernel, seed=1)
    options: dict[str, Any] = {"pad": pad} if pad_type == "custom" else {}
    options |= {"bias": bias} if bias is not None else {}

    def build(x: Var) -> Var:
        return mb.conv(
            x=x, weight=weight, strides=strides, pad_type=pad_type, dilations=dilations,
            groups=groups, **options,
        )  # fmt: skip

    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = {
        "valid": [(0, 0)] * rank,
        "custom": [(pad[2 * i], pad[2 * i + 1]) for i in range(rank)],
        "same": [same_pads(*a, False) for a in zip(sizes, window, strides, strict=True)],
        "same_lower": [same_pads(*a, True) for a in zip(sizes, window, strides, strict=True)],
    }[pad_type]
    padded, w = torch_(np.pad(x, [(0, 0), (0, 0), *pads]), weight)
    function = [F.conv1d, F.conv2d, F.conv3d][rank - 1]
    b = None if bias is None else torch.from_numpy(bias)
    check(build, function(padded, w, b, strides, 0, dilations, groups).numpy(), x=x)


@given(st.data(), st.integers(1, 3))
@settings(few, max_examples=20)
def test_conv_transpose(data: st.DataObject, rank: int) -> None:
    sizes = [data.draw(st.integers(2, 5)) for _ in range(rank)]
    kernel, strides, dilations = (
        [data.draw(st.integers(1, most)) for _ in range(rank)] for most in (4, 3, 2)
    )
    groups = data.draw(st.sampled_from([1, 2]))
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    pad = [data.draw(st.integers(0, 1)) for _ in range(rank)]
    assume(all(n > 2 * p for n, p in zip(full, pad, strict=True)))
    extra = [data.draw(st.integers(0, s - 1)) for s in strides]
    x, weight, bias = random(2, 4, *sizes), random(4, 3, *kernel, seed=1), random(3 * groups)
    shape = [n - 2 * p + e for n, p, e in zip(full, pad, extra, strict=True)]

    def build(x: Var) -> Var:
        return mb.conv_transpose(
            x=x, weight=weight, bias=bias, strides=strides, dilations=dilations, groups=groups,
            pad_type="custom", pad=np.repeat(pad, 2), output_shape=[2, 3 * groups, *shape],
        )  # fmt: skip

    function = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][rank - 1]
    expected = function(*torch_(x, weight, bias), strides, pad, extra, groups, dilations)
    check(build, expected.numpy(), x=x)


def test_conv_transpose_pads_differently_before_and_after() -> None:
    x, weight = random(1, 2, 4), random(2, 3, 3, seed=1)
    full = F.conv_transpose1d(*torch_(x, weight)).numpy()

    def build(x: Var) -> Var:
        valid = mb.conv_transpose(x=x, weight=weight, pad_type="valid")
        return valid, mb.conv_transpose(x=x, weight=weight, pad_type="custom", pad=[2, 1])

    check(build, [full, full[..., 2:-1]], x=x)


@given(booleans, booleans, st.sampled_from([((), ()), ((2,), (2,)), ((3, 2), (2,)), ((1,), (4,))]))
@few
def test_matmul(transpose_x: bool, transpose_y: bool, batch: tuple[tuple[int, ...], ...]) -> None:
    x = random(*batch[0], *((4, 3) if transpose_x else (3, 4)))
    y = random(*batch[1], *((5, 4) if transpose_y else (4, 5)), seed=1)

    def build(x: Var, y: Var) -> Var:
        return mb.matmul(x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y)

    left = np.swapaxes(x, -1, -2) if transpose_x else x
    check(build, left @ (np.swapaxes(y, -1, -2) if transpose_y else y), x=x, y=y)


@given(st.integers(1, 3), booleans)
@few
def test_linear(rank: int, biased: bool) -> None:
    x, weight = random(*[2, 3][: rank - 1], 4), random(5, 4, seed=1)
    bias = random(5, seed=2) if biased else np.zeros(5, np.float32)
    options = {"bias": bias} if biased else {}
    check(lambda x: mb.linear(x=x, weight=weight, **options), x @ weight.T + bias, x=x)


def test_einsum() -> None:
    x, y = random(2, 3, 4, 5), random(2, 5, 4, 6, seed=1)
    equation = "nchw,nwhu->nchu"

    def build(x: Var, y: Var) -> Var:
        return mb.einsum(values=(x, y), equation=equation)

    check(build, np.einsum(equation, x, y), x=x, y=y)


@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_scaled_dot_product_attention(mask: str | None) -> None:
    q, k, v = random(2, 3, 5, 8), random(2, 3, 6, 8, seed=1), random(2, 3, 6, 7, seed=2)
    added = random(5, 6, seed=3)
    kept = added > -1
    options = {None: {}, "float": {"attn_mask": added}, "bool": {"attn_mask": kept}}[mask]

    def build(q: Var, k: Var, v: Var) -> Var:
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **options)

    given_mask = {None: None, "float": torch.from_numpy(added), "bool": torch.from_numpy(kept)}
    expected = F.scaled_dot_product_attention(*torch_(q, k, v), given_mask[mask])
    check(build, expected.numpy(), "iOS18", q=q, k=k, v=v)


# --- pooling


@given(st.data(), st.integers(1, 2), booleans)
@settings(few, max_examples=25)
def test_pooling_as_torch_does(data: st.DataObject, rank: int, ceil_mode: bool) -> None:
    sizes = [data.draw(st.integers(5, 9)) for _ in range(rank)]
    kernel = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    strides = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    pad = [data.draw(st.integers(0, k // 2)) for k in kernel]
    exclude = data.draw(booleans)
    # Without padding, a window that starts behind the input: see the test below.
    rows = list(zip(sizes, kernel, strides, pad, strict=True))
    assume(not ceil_mode or all(p or -(-(n - k) // s) * s < n for n, k, s, p in rows))
    x = random(2, 3, *sizes)
    options: dict[str, Any] = {"kernel_sizes": kernel, "strides": strides, "pad_type": "custom"}
    options |= {"pad": np.repeat(pad, 2), "ceil_mode": ceil_mode}

    def build(x: Var) -> Var:
        average = mb.avg_pool(x=x, exclude_padding_from_average=exclude, **options)
        return average, mb.max_pool(x=x, **options)

    avg = [F.avg_pool1d, F.avg_pool2d][rank - 1]
    top = [F.max_pool1d, F.max_pool2d][rank - 1]
    t = torch.from_numpy(x)
    expected = [
        avg(t, kernel, strides, pad, ceil_mode, not exclude).numpy(),
        top(t, kernel, strides, pad, 1, ceil_mode).numpy(),
    ]
    check(build, expected, x=x)


def test_pooling_behind_the_input_is_refused() -> None:
    def build(x: Var) -> Var:
        options: dict[str, Any] = {"pad_type": "valid", "ceil_mode": True}
        return mb.max_pool(x=x, kernel_sizes=[1], strides=[3], **options)

    with pytest.raises(BackendError, match=r"op max_pool .* behind the input"):
        run(build, {"x": random(1, 1, 5)})


@given(st.data(), st.sampled_from(["valid", "same", "same_lower", "custom"]))
@settings(few, max_examples=20)
def test_pooling_with_any_padding(data: st.DataObject, pad_type: str) -> None:
    size, kernel = data.draw(st.integers(5, 8)), data.draw(st.integers(2, 4))
    stride, exclude = data.draw(st.integers(1, 3)), data.draw(booleans)
    custom = (data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1)))
    x = random(1, 2, size, size, size)
    options: dict[str, Any] = {"kernel_sizes": [kernel] * 3, "strides": [stride] * 3}
    options |= {"pad_type": pad_type} | ({"pad": custom * 3} if pad_type == "custom" else {})

    def build(x: Var) -> Var:
        average = mb.avg_pool(x=x, exclude_padding_from_average=exclude, **options)
        return average, mb.max_pool(x=x, **options)

    pads = {"valid": (0, 0), "custom": custom}.get(pad_type) or same_pads(
        size, kernel, stride, pad_type == "same_lower"
    )
    padded = np.pad(x, [(0, 0), (0, 0), *[pads] * 3], constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel,) * 3, (2, 3, 4))
    windows = windows[:, :, ::stride, ::stride, ::stride].reshape(1, 2, -1, kernel**3)
    counted = (~np.isnan(windows)).sum(-1) if exclude else kernel**3
    side = math.ceil(windows.shape[2] ** (1 / 3) - 1e-6)
    shape = (1, 2, side, side, side)
    expected = [np.nansum(windows, -1) / counted, np.nanmax(windows, -1)]
    check(build, [e.reshape(shape) for e in expected], x=x)


def test_l2_pool() -> None:
    x = random(1, 2, 6)
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, 2)[:, :, ::2]
    expected = np.sqrt((windows**2).sum(-1))

    def build(x: Var) -> Var:
        return mb.l2_pool(x=x, kernel_sizes=[3], strides=[2], pad_type="valid")

    check(build, expected, x=x)


# --- layout


def test_reshape_with_kept_and_inferred_sizes() -> None:
    x = random(2, 3, 4)

    def build(x: Var) -> Var:
        shapes = [[6, 4], [0, -1, 2], [-1], [0, 2, -1]]
        return tuple(mb.reshape(x=x, shape=shape) for shape in shapes)

    check(build, [x.reshape(s) for s in [(6, 4), (2, 6, 2), 24, (2, 2, 6)]], x=x)


@given(st.permutations(range(4)))
@few
def test_axes(perm: list[int]) -> None:
    x = random(2, 1, 3, 1)

    def build(x: Var) -> Var:
        return (
            mb.transpose(x=x, perm=perm),
            mb.shape(x=x),
            mb.squeeze(x=x, axes=[1]),
            mb.squeeze(x=x),
            mb.reverse(x=x, axes=[0, -2]),
            mb.reverse(x=x),
        )

    expected = [
        x.transpose(perm), [2, 1, 3, 1], x[:, 0], x[:, 0, :, 0],
        x[::-1, :, ::-1], x[::-1, :, ::-1],
    ]  # fmt: skip
    check(build, expected, x=x)


@given(st.lists(st.integers(-4, 3), min_size=1, max_size=2, unique=True))
@few
def test_expand_dims(axes: list[int]) -> None:
    rank = 2 + len(axes)
    assume(all(-rank <= a < rank for a in axes))
    assume(len({a % rank for a in axes}) == len(axes))
    x = random(2, 3)
    check(lambda x: mb.expand_dims(x=x, axes=axes), np.expand_dims(x, tuple(axes)), x=x)


@given(st.integers(-3, 2), booleans)
@few
def test_joining_and_cutting(axis: int, even: bool) -> None:
    x, y = random(2, 4, 6), random(2, 4, 6, seed=1)
    size = x.shape[axis]
    sizes = [1, size - 1]
    cut = {"num_splits": 2} if even else {"split_sizes": sizes}

    def build(x: Var, y: Var) -> Var:
        return (
            mb.concat(values=(x, y), axis=axis),
            mb.concat(values=(x, y), axis=axis, interleave=True),
            mb.stack(values=(x, y), axis=axis),
            *mb.split(x=x, axis=axis, **cut),
            mb.tile(x=x, reps=[2, 1, 3]),
        )

    whole = np.concatenate([x, y], axis)
    turns = np.ravel([[i, i + size] for i in range(size)])
    expected = [whole, np.take(whole, turns, axis), np.stack([x, y], axis)]
    expected += [*np.split(x, 2 if even else [1], axis), np.tile(x, (2, 1, 3))]
    check(build, expected, x=x, y=y)


@given(st.data(), st.sampled_from(["constant", "reflect", "replicate"]), st.integers(1, 3))
@few
def test_pad(data: st.DataObject, mode: str, axes: int) -> None:
    x = random(3, 4, 5)
    pairs = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(axes)]
    full = [(0, 0)] * (3 - axes) + pairs
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    fill = {"constant_values": 1.5} if mode == "constant" else {}

    def build(x: Var) -> Var:
        return mb.pad(x=x, pad=np.ravel(pairs), mode=mode, constant_val=np.float32(1.5))

    check(build, np.pad(x, full, names[mode], **fill), x=x)


def test_blocks() -> None:
    x = random(2, 8, 4, 6)

    def build(x: Var) -> Var:
        return (
            mb.pixel_shuffle(x=x, upscale_factor=2),
            mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            mb.depth_to_space(x=x, block_size=2),
            mb.space_to_depth(x=x, block_size=2),
            mb.sliding_windows(x=x, axis=1, size=3, stride=2),
            mb.flatten2d(x=x, axis=2),
            mb.crop(x=x, crop_height=[1, 0], crop_width=[2, 1]),
        )

    deep = np.zeros((2, 2, 8, 12), np.float32)
    flat = np.zeros((2, 32, 2, 3), np.float32)
    for i in range(2):
        for j in range(2):  # the channels are counted block first
            first = (2 * i + j) * 2
            deep[:, :, i::2, j::2] = x[:, first : first + 2]
            flat[:, (2 * i + j) * 8 : (2 * i + j + 1) * 8] = x[:, :, i::2, j::2]
    t = torch.from_numpy(x)
    expected = [
        F.pixel_shuffle(t, 2).numpy(), F.pixel_unshuffle(t, 2).numpy(), deep, flat,
        np.stack([x[:, i : i + 3] for i in (0, 2, 4)], 1), x.reshape(16, 24),
        x[:, :, 1:, 2:-1],
    ]  # fmt: skip
    check(build, expected, x=x)


# --- indexing


@given(st.data())
@settings(few, max_examples=25)
def test_slice_by_index(data: st.DataObject) -> None:
    x = random(5, 6, 7)
    options: dict[str, list[Any]] = {
        key: [] for key in ("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    }
    places: list[Any] = []
    for size in x.shape:
        stride = data.draw(st.sampled_from([-2, -1, 1, 2]))
        begin, end = sorted((data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))))
        begin, end = (begin, end + (begin == end)) if stride > 0 else (end - 1, begin - 1)
        begin = max(begin, 0)
        masks = [data.draw(booleans), data.draw(booleans) or end < 0 or end == size]
        if data.draw(booleans):  # the same place, counted from the end
            begin, end = begin - size, end - size
        squeeze = data.draw(st.sampled_from([False, False, True]))
        part = slice(None if masks[0] else begin, None if masks[1] else end, stride)
        if not squeeze:
            assume(len(range(*part.indices(size))) > 0)
        places.append(begin if squeeze else part)
        row = [begin, end, stride, *masks, squeeze]
        for key, value in zip(options, row, strict=True):
            options[key].append(value)
    assume(not all(options["squeeze_mask"]))
    check(lambda x: mb.slice_by_index(x=x, **options), x[tuple(places)], x=x)


def test_slices_by_size_and_updates() -> None:
    x, update = random(4, 5), random(2, 5, seed=1)

    def build(x: Var, u: Var) -> Var:
        return (
            mb.slice_by_size(x=x, begin=[1, 2], size=[2, -1]),
            mb.slice_by_size(x=x, begin=[-2, 0], size=[1, 3]),
            mb.slice_update(x=x, update=u, begin=[1, 0], end=[4, 0], stride=[2, 1],
                            end_mask=[False, True]),
        )  # fmt: skip

    updated = x.copy()
    updated[1:4:2] = update
    check(build, [x[1:3, 2:], x[2:3, :3], updated], "iOS18", x=x, u=update)


@given(st.integers(-3, 2), st.integers(1, 2))
@few
def test_gather(axis: int, rank: int) -> None:
    x = random(3, 4, 5)
    size = x.shape[axis]
    indices = np.random.default_rng(1).integers(-size, size, (2, 3)[:rank])

    def build(x: Var, i: Var) -> Var:
        return mb.gather(x=x, indices=i, axis=axis)

    check(build, np.take(x, indices, axis), x=x, i=indices.astype(np.int32))


def test_gather_with_common_axes() -> None:
    x, indices = random(2, 3, 4, 5), np.array([[0, 3], [1, 1]], np.int32)

    def build(x: Var, i: Var) -> Var:
        return mb.gather(x=x, indices=i, axis=2, batch_dims=1)

    check(build, np.stack([x[b][:, indices[b]] for b in range(2)]), x=x, i=indices)


@given(st.integers(-3, 2))
@few
def test_gather_along_axis(axis: int) -> None:
    x = random(3, 4, 5)
    shape = [2 if a == axis % 3 else n for a, n in enumerate(x.shape)]
    indices = np.random.default_rng(1).integers(0, x.shape[axis], shape)

    def build(x: Var, i: Var) -> Var:
        return mb.gather_along_axis(x=x, indices=i, axis=axis)

    check(build, np.take_along_axis(x, indices, axis), x=x, i=indices.astype(np.int32))


def test_gather_and_scatter_of_places() -> None:
    x, updates = random(2, 3, 4), random(2, 4, seed=1)
    indices = np.array([[0, 2], [1, 0]], np.int32)
    last = np.array([[[1], [3]], [[0], [0]]], np.int32)

    def build(x: Var, i: Var, u: Var, j: Var) -> Var:
        return (
            mb.gather_nd(x=x, indices=i),
            mb.gather_nd(x=mb.transpose(x=x, perm=[0, 2, 1]), indices=j, batch_dims=1),
            mb.scatter_nd(data=x, indices=i, updates=u, mode="update"),
            mb.scatter_nd(data=x, indices=i, updates=u, mode="add"),
        )

    put, added = x.copy(), x.copy()
    put[0, 2], put[1, 0] = updates
    added[0, 2] += updates[0]
    added[1, 0] += updates[1]
    turned = x.transpose(0, 2, 1)
    batched = np.stack([turned[b][last[b, :, 0]] for b in range(2)])
    expected = [x[[0, 1], [2, 0]], batched, put, added]
    check(build, expected, x=x, i=indices, u=updates, j=last)


def test_a_place_outside_is_refused() -> None:
    x, place = random(2, 3), np.array([[2]], np.int32)
    with pytest.raises(BackendError, match=r"op gather_nd .* out of bounds"):
        run(lambda x, i: mb.gather_nd(x=x, indices=i), {"x": x, "i": place})


def test_scatter_along_axis_adds() -> None:
    x, updates = random(3, 4), random(2, 4, seed=1)
    indices = np.array([[0, 2, 2, 1], [0, 1, 2, 1]], np.int32)
    expected = x.copy()
    for row in range(2):
        for column in range(4):
            expected[indices[row, column], column] += updates[row, column]

    def build(x: Var, i: Var, u: Var) -> Var:
        return mb.scatter_along_axis(data=x, indices=i, updates=u, axis=0, mode="add")

    check(build, expected, x=x, i=indices, u=updates)


def test_scatter_that_leaves_the_result_open_is_refused() -> None:
    x, updates, indices = random(3), random(2), np.array([[1], [1]], np.int32)

    def build(x: Var, i: Var, u: Var) -> Var:
        return mb.scatter_nd(data=x, indices=i, updates=u, mode="update")

    with pytest.raises(BackendError, match=r"op scatter_nd .* repeated"):
        run(build, {"x": x, "i": indices, "u": updates})


def test_non_zero_makes_a_shape_that_only_the_run_knows() -> None:
    x = np.array([[0, 1, 0], [2, 0, 3]], np.float32)
    check(lambda x: mb.non_zero(x=x), np.argwhere(x), x=x)


# --- making


def test_making() -> None:
    x, n = random(2, 3), np.array([1, 0, 2], np.int32)

    def build(x: Var, n: Var) -> Var:
        size = mb.slice_by_index(x=mb.shape(x=x), begin=[1], end=[2], squeeze_mask=[True])
        return (
            mb.fill(shape=mb.shape(x=x), value=np.float32(2.5)),
            mb.range_1d(start=1, end=mb.mul(x=size, y=3), step=2),
            mb.one_hot(indices=n, one_hot_vector_size=4, on_value=2.0, off_value=-1.0),
            mb.one_hot(indices=n, one_hot_vector_size=3, axis=0),
            mb.band_part(x=x, lower=0, upper=1),
            mb.band_part(x=x, lower=0, upper=-1),
            mb.fill_like(ref_tensor=x, value=np.float32(7)),
        )

    hot = np.full((3, 4), -1.0)
    hot[range(3), n] = 2
    expected = [
        np.full((2, 3), 2.5), np.arange(1, 9, 2), hot, np.eye(3)[n].T,
        np.triu(np.tril(x, 1)), np.triu(x), np.full((2, 3), 7),
    ]  # fmt: skip
    check(build, expected, x=x, n=n)


# --- resizing


def interpolated(x: Array, places: Array, axis: int) -> Array:
    points = np.arange(x.shape[axis])
    return np.apply_along_axis(lambda row: np.interp(places, points, row), axis, x)


def places(mode: str, size: int, count: int) -> Array:
    """Sampling points as coremltools' documentation of resize_bilinear gives them."""
    i = np.arange(count)
    delta = max(1, size - 1) / count
    rules = {
        "STRICT_ALIGN_CORNERS": i * (size - 1) / max(1, count - 1),
        "ALIGN_CORNERS": i * (size - 1) / (count - 1) if count > 1 else np.array([(size - 1) / 2]),
        "DEFAULT": i * (size - size / count) / max(1, count - 1),
        "OFFSET_CORNERS": 0.5 * delta + i * delta,
        "UNALIGN_CORNERS": i * size / count + 0.5 * size / count - 0.5,
    }
    return np.clip(rules[mode], 0, size - 1)


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


@given(st.sampled_from(MODES), st.integers(1, 9), st.integers(1, 9))
@settings(few, max_examples=25)
def test_bilinear(mode: str, height: int, width: int) -> None:
    x = random(2, 3, 4, 5)

    def build(x: Var) -> Var:
        return (
            mb.resize_bilinear(
                x=x, target_size_height=height, target_size_width=width, sampling_mode=mode
            ),
            mb.resize(
                x=x, shape=[height, 0], resized_dims=np.uint32(2), interpolation_mode="LINEAR",
                sampling_mode=mode,
            ),
        )  # fmt: skip

    tall = interpolated(x, places(mode, 4, height), 2)
    same = interpolated(tall, places(mode, 5, 5), 3)
    check(build, [interpolated(tall, places(mode, 5, width), 3), same], x=x)


@given(st.sampled_from([1, 2, 3, 1.5, 2.5]), st.sampled_from([1, 2, 3, 1.5]), booleans)
@few
def test_upsampling(tall: float, wide: float, align: bool) -> None:
    x = random(1, 2, 4, 6)
    factors: dict[str, Any] = {"scale_factor_height": tall, "scale_factor_width": wide}
    if any(isinstance(f, float) for f in factors.values()):
        factors = {key: np.float32(f) for key, f in factors.items()}
    size = (int(4 * tall), int(6 * wide))

    def build(x: Var) -> Var:
        return (
            mb.upsample_bilinear(x=x, align_corners=align, **factors),
            mb.upsample_nearest_neighbor(x=x, **factors),
            mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=18),
        )

    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
    smooth = interpolated(interpolated(x, places(mode, 4, size[0]), 2), places(mode, 6, size[1]), 3)
    rows = np.arange(size[0]) * 4 // size[0]
    columns = np.arange(size[1]) * 6 // size[1]
    nearest = x[:, :, rows][..., columns]
    check(build, [smooth, nearest, x.repeat(2, 2).repeat(3, 3)], x=x)


# --- 8-bit activations


@given(st.sampled_from(["int8", "uint8"]), booleans, booleans)
@few
def test_quantize_and_dequantize(dtype: str, vector: bool, shifted: bool) -> None:
    x = random(2, 3, 4) * 20
    scale = np.float32([0.1, 0.25, 0.5]) if vector else np.float32(0.1)
    zero = np.array([3, 5, 7] if vector else 3, dtype)
    options: dict[str, Any] = {"scale": scale} | ({"axis": 1} if vector else {})
    options |= {"zero_point": zero if vector else zero[()]} if shifted else {}

    def build(x: Var) -> Var:
        numbers = mb.quantize(input=x, output_dtype=dtype, **options)
        return mb.cast(x=numbers, dtype="fp32"), mb.dequantize(input=numbers, **options)

    s = scale.reshape(-1, 1)
    z = zero.astype(np.float32).reshape(-1, 1) * shifted
    limits = np.iinfo(dtype)
    numbers = np.clip(np.round(x / s) + z, limits.min, limits.max)
    check(build, [numbers, (numbers - z) * s], x=x)


# --- the whole set

TESTED_ELSEWHERE = {kind for kind in KERNELS if kind.startswith("constexpr_")}


def test_every_kernel_is_tested() -> None:
    text = Path(__file__).read_text()
    named = {kind for kind in KERNELS if f"mb.{kind}(" in text or f'"{kind}"' in text}
    assert set(KERNELS) - named - TESTED_ELSEWHERE == set()
