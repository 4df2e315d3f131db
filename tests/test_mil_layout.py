"""Operations that lay numbers out anew or make them, against numpy."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.mil_programs import Var, check, few, mb, random


def test_reshape_with_kept_and_inferred_sizes() -> None:
    x = random(2, 3, 4)

    def build(x: Var) -> Var:
        shapes = [[6, 4], [0, -1, 2], [-1], [0, 2, -1]]
        return tuple(mb.reshape(x=x, shape=shape) for shape in shapes)

    check(build, [x.reshape(s) for s in [(6, 4), (2, 6, 2), 24, (2, 2, 6)]], x=x)


def test_transpose() -> None:
    x = random(2, 1, 3, 4)
    every = list(itertools.permutations(range(4)))
    negative = (-1, 0, -2, 1)

    def build(x: Var) -> Var:
        return tuple(mb.transpose(x=x, perm=perm) for perm in (*every, negative))

    check(build, [x.transpose(perm) for perm in (*every, negative)], x=x)


def test_axes() -> None:
    x = random(2, 1, 3, 1)

    def build(x: Var) -> Var:
        return (
            mb.shape(x=x),
            mb.squeeze(x=x, axes=[1]),
            mb.squeeze(x=x),
            mb.reverse(x=x, axes=[0, -2]),
            mb.reverse(x=x),
        )

    expected = [[2, 1, 3, 1], x[:, 0], x[:, 0, :, 0], x[::-1, :, ::-1], x[::-1, :, ::-1]]
    check(build, expected, x=x)


def test_expand_dims() -> None:
    x = random(2, 3)
    one = [(axis,) for axis in range(-3, 3)]
    two = [pair for pair in itertools.permutations(range(-4, 4), 2) if (pair[0] - pair[1]) % 4]

    def build(x: Var) -> Var:
        return tuple(mb.expand_dims(x=x, axes=axes) for axes in (*one, *two))

    check(build, [np.expand_dims(x, axes) for axes in (*one, *two)], x=x)


@pytest.mark.parametrize("axis", range(-3, 3))
def test_joining_and_cutting(axis: int) -> None:
    x, y = random(2, 4, 6), random(2, 4, 6, seed=1)
    size = x.shape[axis]

    def build(x: Var, y: Var) -> Var:
        return (
            mb.concat(values=(x, y), axis=axis),
            mb.concat(values=(x, y), axis=axis, interleave=True),
            mb.stack(values=(x, y), axis=axis),
            *mb.split(x=x, axis=axis, num_splits=2),
            *mb.split(x=x, axis=axis, split_sizes=[1, size - 1]),
        )

    whole = np.concatenate([x, y], axis)
    turns = np.ravel([[i, i + size] for i in range(size)])
    expected = [whole, np.take(whole, turns, axis), np.stack([x, y], axis)]
    check(build, [*expected, *np.split(x, 2, axis), *np.split(x, [1], axis)], x=x, y=y)


def test_tile() -> None:
    x = random(2, 4, 6)
    check(lambda x: mb.tile(x=x, reps=[2, 1, 3]), np.tile(x, (2, 1, 3)), x=x)


@given(st.data(), st.sampled_from(["constant", "reflect", "replicate"]), st.integers(1, 3))
@few
def test_pad(data: st.DataObject, mode: str, axes: int) -> None:
    x = random(3, 4, 5)
    pairs = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(axes)]
    full = [(0, 0)] * (3 - axes) + pairs
    padded = {
        "constant": np.pad(x, full, constant_values=1.5),
        "reflect": np.pad(x, full, "reflect"),
        "replicate": np.pad(x, full, "edge"),
    }

    def build(x: Var) -> Var:
        return mb.pad(x=x, pad=np.ravel(pairs), mode=mode, constant_val=np.float32(1.5))

    check(build, padded[mode], x=x)


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
