"""Four-bit matrices that are rounded by what their product loses."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mobilesam_export.backends.onnx.compensation import compensated
from mobilesam_export.backends.onnx.graph import Array
from mobilesam_export.backends.onnx.store import pack_four_bits

BLOCK = 16


def restored(numbers: Array, scales: Array) -> Array:
    """What MatMulNBits multiplies with, (K, N)."""
    whole = np.stack([numbers & 15, numbers >> 4], axis=-1).astype(int) - 8
    columns, blocks, *_ = whole.shape
    values = whole.reshape(columns, blocks, BLOCK) * scales[..., None]
    return values.reshape(columns, -1).T.astype(np.float32)


@pytest.fixture
def layer() -> tuple[Array, Array]:
    """Inputs that go together, (rows, 64), and a matrix (64, 24)."""
    random = np.random.default_rng(0)
    x = (
        random.normal(size=(500, 8)) @ random.normal(size=(8, 64))
        + random.normal(size=(500, 64)) / 4
    )
    return x.astype(np.float32), random.normal(size=(64, 24)).astype(np.float32)


def moment(x: Array) -> Tensor:
    """Of inputs (rows, K)."""
    return torch.from_numpy((x.T @ x / len(x)).astype(np.float64))


def test_what_is_chosen_is_what_four_bits_hold(layer: tuple[Array, Array]) -> None:
    x, matrix = layer
    chosen, scales = compensated(matrix, moment(x), BLOCK)
    assert restored(*pack_four_bits(chosen, BLOCK, scales)) == pytest.approx(chosen, abs=1e-6)


def test_the_product_loses_half_of_what_rounding_to_the_nearest_costs(
    layer: tuple[Array, Array],
) -> None:
    x, matrix = layer
    nearest = restored(*pack_four_bits(matrix, BLOCK))
    chosen, _ = compensated(matrix, moment(x), BLOCK)
    losses = [np.square(x @ (found - matrix)).mean() for found in (chosen, nearest)]
    assert losses[0] < losses[1] / 2
