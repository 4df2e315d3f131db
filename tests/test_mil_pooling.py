"""Pooling, against torch where torch has it, else against numpy's windows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mobilesam_export.errors import BackendError
from tests.mil_programs import Var, booleans, check, few, mb, random, run, same_pads


@given(st.data(), st.integers(1, 2), booleans)
@settings(few, max_examples=16)
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
@settings(few, max_examples=12)
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
