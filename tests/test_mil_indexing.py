"""Slices, gathers and scatters, against numpy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mobilesam_export.errors import BackendError
from tests.mil_programs import Var, booleans, check, few, mb, random, run


@given(st.data())
@settings(few, max_examples=16)
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


@pytest.mark.parametrize("axis", range(-3, 3))
def test_gather(axis: int) -> None:
    x = random(3, 4, 5)
    size = x.shape[axis]
    table = np.random.default_rng(1).integers(-size, size, (2, 3)).astype(np.int32)

    def build(x: Var, i: Var, j: Var) -> Var:
        return mb.gather(x=x, indices=i, axis=axis), mb.gather(x=x, indices=j, axis=axis)

    expected = [np.take(x, table, axis), np.take(x, table[0], axis)]
    check(build, expected, x=x, i=table, j=table[0])


def test_gather_with_common_axes() -> None:
    x, indices = random(2, 3, 4, 5), np.array([[0, 3], [1, 1]], np.int32)

    def build(x: Var, i: Var) -> Var:
        return mb.gather(x=x, indices=i, axis=2, batch_dims=1)

    check(build, np.stack([x[b][:, indices[b]] for b in range(2)]), x=x, i=indices)


@pytest.mark.parametrize("axis", range(-3, 3))
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
