"""Pessimistic float16: every step is rounded, sums are float16 numbers, overflow is named."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.verification.half import PessimisticFloat16


def values(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float()


def test_every_result_is_a_float16_number() -> None:
    a, b = values(0, 3, 5), values(1, 3, 5)
    with PessimisticFloat16():
        found = a * b + a
    product = (a * b).half().float()
    assert torch.equal(found, (product + a).half().float())


def test_a_sum_of_squares_overflows_where_no_square_does() -> None:
    x = values(2, 1, 320) * 40
    half = PessimisticFloat16()
    with half:
        found = F.layer_norm(x, (320,))
    assert not torch.isfinite(found).all() or float(found.abs().max()) == 0
    assert half.largest.tensor == "layer_norm, sum of squares"
    assert 65504 < half.largest.value < 1e6


def test_layer_norm_in_range_is_close_to_float32() -> None:
    x = values(3, 4, 64)
    with PessimisticFloat16():
        found = F.layer_norm(x, (64,))
    assert float((found - F.layer_norm(x, (64,))).abs().max()) < 5e-3


def test_the_mean_of_centered_values_is_no_value_that_is_lost() -> None:
    """And squares that are too small are."""
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(-1, keepdim=True)
    for scale, lost in ((1.0, False), (1e-4, True)):
        with PessimisticFloat16() as half:
            F.layer_norm(scale * x, (64,))
        assert (half.faintest.value < 2**-14) == lost, half.faintest


def test_partial_sums_count_for_the_headroom_though_they_cancel() -> None:
    a = torch.tensor([[200.0, 200.0]])
    b = torch.tensor([[200.0], [-200.0]])
    half = PessimisticFloat16()
    with half:
        found = a @ b
    assert float(found) == 0
    assert half.largest.value == 80_000
    assert "partial sums" in half.largest.tensor


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["none", "tanh"]))
def test_gelu_and_softmax_stay_near_float32(seed: int, approximate: str) -> None:
    x = values(seed, 2, 17)
    with PessimisticFloat16():
        gelu, soft = F.gelu(x, approximate=approximate), x.softmax(-1)
    assert float((gelu - F.gelu(x, approximate=approximate)).abs().max()) < 1e-2
    assert float((soft - x.softmax(-1)).abs().max()) < 2e-3


def test_attention_is_taken_apart() -> None:
    q, k, v = (values(seed, 1, 2, 5, 8) for seed in (5, 6, 7))
    with PessimisticFloat16():
        found = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(found, found.half().float())
    assert float((found - F.scaled_dot_product_attention(q, k, v)).abs().max()) < 5e-3


def test_inference_mode_hides_nothing() -> None:
    x, layer = values(8, 1, 3, 8, 8), torch.nn.Conv2d(3, 4, 3)
    half = PessimisticFloat16()
    with torch.inference_mode(), half:
        found = layer(x)
    assert torch.equal(found, found.half().float())
    assert "partial sums" in half.largest.tensor


def test_what_hides_steps_is_refused() -> None:
    with PessimisticFloat16(), pytest.raises(NotImplementedError, match="var"):
        values(9, 4).var()
