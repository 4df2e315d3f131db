"""Reductions, orders and normalisations over any axes, against numpy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mil_programs import Array, Var, booleans, check, few, mb, random

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


AXES = [None, [0], [1], [2], [-1], [-3], [0, 1], [2, 0], [-2, -1], [1, -1], [0, 1, 2]]


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind: str) -> None:
    x = np.abs(random(2, 3, 4)) + 0.1
    cases = [(axes, keep) for axes in AXES for keep in (False, True)]

    def build(x: Var) -> Var:
        return tuple(getattr(mb, kind)(x=x, axes=axes, keep_dims=keep) for axes, keep in cases)

    wide = x.astype(np.float64)
    expected = [
        REDUCTIONS[kind](wide, axis=None if axes is None else tuple(axes), keepdims=keep)
        for axes, keep in cases
    ]
    check(build, expected, x=x)


@pytest.mark.parametrize("axis", range(-3, 3))
def test_indices_of_extremes(axis: int) -> None:
    x = np.random.default_rng(3).permutation(24).reshape(2, 3, 4).astype(np.float32)

    def build(x: Var) -> Var:
        return (
            mb.reduce_argmax(x=x, axis=axis, keep_dims=False),
            mb.reduce_argmin(x=x, axis=axis, keep_dims=False),
            mb.reduce_argmax(x=x, axis=axis, keep_dims=True),
            mb.reduce_argmin(x=x, axis=axis, keep_dims=True),
        )

    functions = (np.argmax, np.argmin)
    check(build, [f(x, axis, keepdims=k) for k in (False, True) for f in functions], x=x)


@pytest.mark.parametrize("axis", range(-3, 3))
def test_orders(axis: int) -> None:
    x = np.random.default_rng(3).permutation(24).reshape(2, 3, 4).astype(np.float32)

    def build(x: Var) -> Var:
        return tuple(
            output
            for up in (False, True)
            for output in (
                mb.argsort(x=x, axis=axis, ascending=up),
                *mb.topk(x=x, k=2, axis=axis, ascending=up),
            )
        )

    expected = []
    for up in (False, True):
        order = np.argsort(x if up else -x, axis)
        first = np.take(order, range(2), axis)
        expected += [order, np.take_along_axis(x, first, axis), first]
    check(build, expected, x=x)


@pytest.mark.parametrize("axis", range(3))
def test_cumsum(axis: int) -> None:
    x = random(2, 3, 4)
    cases = [(exclusive, reverse) for exclusive in (False, True) for reverse in (False, True)]

    def build(x: Var) -> Var:
        return tuple(mb.cumsum(x=x, axis=axis, exclusive=e, reverse=r) for e, r in cases)

    expected = []
    for exclusive, reverse in cases:
        ordered = np.flip(x, axis) if reverse else x
        sums = np.cumsum(ordered, axis) - (ordered if exclusive else 0)
        expected.append(np.flip(sums, axis) if reverse else sums)
    check(build, expected, x=x)


def test_softmax() -> None:
    x = random(2, 3, 4) * 20
    axes = range(-3, 3)
    powers = [np.exp(x.astype(np.float64) - x.max(axis, keepdims=True)) for axis in axes]
    expected = [p / p.sum(axis, keepdims=True) for p, axis in zip(powers, axes, strict=True)]
    check(lambda x: tuple(mb.softmax(x=x, axis=axis) for axis in axes), expected, x=x)


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
