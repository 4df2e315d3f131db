"""Convolutions and products, against torch told the same thing in another way, and numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mil_programs import (
    Array,
    Var,
    booleans,
    check,
    few,
    mb,
    random,
    same_pads,
    tensors,
)

Function = Callable[..., torch.Tensor]  # torch's convolutions have several signatures each


@given(st.data(), st.integers(1, 3), st.sampled_from(["valid", "same", "same_lower", "custom"]))
@settings(few, max_examples=16)
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
    padded, w = tensors(np.pad(x, [(0, 0), (0, 0), *pads]), weight)
    function: Function = [F.conv1d, F.conv2d, F.conv3d][rank - 1]
    b = None if bias is None else torch.from_numpy(bias)
    check(build, function(padded, w, b, strides, 0, dilations, groups).numpy(), x=x)


@given(st.data(), st.integers(1, 3))
@settings(few, max_examples=12)
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

    function: Function = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][rank - 1]
    expected = function(*tensors(x, weight, bias), strides, pad, extra, groups, dilations)
    check(build, expected.numpy(), x=x)


def test_conv_transpose_pads_differently_before_and_after() -> None:
    x, weight = random(1, 2, 4), random(2, 3, 3, seed=1)
    t, w = tensors(x, weight)
    full = F.conv_transpose1d(t, w).numpy()

    def build(x: Var) -> Var:
        valid = mb.conv_transpose(x=x, weight=weight, pad_type="valid")
        return valid, mb.conv_transpose(x=x, weight=weight, pad_type="custom", pad=[2, 1])

    check(build, [full, full[..., 2:-1]], x=x)


@given(st.data(), st.integers(0, 2), st.integers(0, 2))
@few
def test_matmul(data: st.DataObject, ahead: int, behind: int) -> None:
    """Any batches that go together, with either side turned or not."""
    sizes = [data.draw(st.integers(1, 3)) for _ in range(2)]
    rows, inner, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    batches = [
        [size if data.draw(booleans) else 1 for size in sizes[2 - count :]]
        for count in (ahead, behind)
    ]
    x, y = random(*batches[0], rows, inner), random(*batches[1], inner, columns, seed=1)
    turned_x, turned_y = np.swapaxes(x, -1, -2).copy(), np.swapaxes(y, -1, -2).copy()

    def build(x: Var, y: Var, tx: Var, ty: Var) -> Var:
        return (
            mb.matmul(x=x, y=y),
            mb.matmul(x=tx, y=y, transpose_x=True),
            mb.matmul(x=x, y=ty, transpose_y=True),
            mb.matmul(x=tx, y=ty, transpose_x=True, transpose_y=True),
        )

    check(build, [x @ y] * 4, x=x, y=y, tx=turned_x, ty=turned_y)


@given(st.lists(st.integers(1, 4), max_size=2), st.integers(1, 5), st.integers(1, 5))
@few
def test_linear(batches: list[int], inputs: int, outputs: int) -> None:
    x, bias = random(*batches, inputs), random(outputs, seed=2)
    weight = random(outputs, inputs, seed=1)

    def build(x: Var) -> Var:
        return mb.linear(x=x, weight=weight), mb.linear(x=x, weight=weight, bias=bias)

    check(build, [x @ weight.T, x @ weight.T + bias], x=x)


def test_einsum() -> None:
    x, y = random(2, 3, 4, 5), random(2, 5, 4, 6, seed=1)
    equation = "nchw,nwhu->nchu"

    def build(x: Var, y: Var) -> Var:
        return mb.einsum(values=(x, y), equation=equation)

    check(build, np.einsum(equation, x, y), x=x, y=y)


@given(st.data(), st.sampled_from([None, "float", "bool"]), st.integers(1, 2))
@settings(few, max_examples=12)
def test_scaled_dot_product_attention(
    data: st.DataObject, mask: str | None, batch_axes: int
) -> None:
    """Any sizes; a mask may have 1 wherever it is the same along an axis of the batch."""
    batches = [data.draw(st.integers(1, 3)) for _ in range(batch_axes)]
    queries, keys, depth, width = (data.draw(st.integers(1, 6)) for _ in range(4))
    q = random(*batches, queries, depth)
    k, v = random(*batches, keys, depth, seed=1), random(*batches, keys, width, seed=2)
    shared = [1 if data.draw(booleans) else size for size in batches]
    added = random(*shared, queries, keys, seed=3)
    kept = added > -1
    kept[..., 0] = True  # a query without any key has no answer
    masks: dict[str, Array] = {"float": added, "bool": kept}
    options = {} if mask is None else {"attn_mask": masks[mask]}

    def build(q: Var, k: Var, v: Var) -> Var:
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **options)

    bias = None if mask is None else torch.from_numpy(masks[mask])
    query, key, value = tensors(q, k, v)
    expected = F.scaled_dot_product_attention(query, key, value, bias)
    check(build, expected.numpy(), "iOS18", q=q, k=k, v=v)
