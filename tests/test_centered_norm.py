"""LayerNorms behind layers whose outputs have a mean of 0, and what runtimes make of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.nn.functional as F

from mobilesam_export.backends.executorch import lowering as executorch
from mobilesam_export.backends.tflite import lowering as tflite
from mobilesam_export.graphs import folding
from mobilesam_export.graphs.norms import CenteredNorm
from mobilesam_export.model.tiny_vit import LayerNorm2d

WIDTH = 16  # channels that are normalised together
LOWERINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "tflite": lambda: tflite.Lowering(float16=False),
    "tflite for a GPU": lambda: tflite.Lowering(float16=True),
    "executorch": lambda: executorch.Lowering(executorch.Constants()),
}


@pytest.fixture
def norm() -> CenteredNorm:
    official = LayerNorm2d(WIDTH)
    torch.manual_seed(0)
    for parameter in official.parameters():
        torch.nn.init.normal_(parameter)
    return CenteredNorm(official).requires_grad_(False)


def values(mean: float) -> torch.Tensor:
    x = 3 * torch.randn(1, 4, 5, WIDTH, generator=torch.Generator().manual_seed(1))
    return x - x.mean(-1, keepdim=True) + mean


def test_a_norm_behind_a_centered_layer_gives_what_it_gives_behind_the_layer(
    norm: CenteredNorm,
) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(3 * WIDTH, 8, dtype=torch.float64, generator=generator)
    bias = 5 + torch.randn(3 * WIDTH, dtype=torch.float64, generator=generator)
    x = torch.randn(1, 4, 8, generator=generator)
    parts = folding.centered(weight, bias, WIDTH)(x).reshape(1, 4, 3, WIDTH)
    assert parts.mean(-1).abs().max() < 1e-6
    expected = norm(folding.linear(weight, bias)(x).reshape(1, 4, 3, WIDTH))
    assert (norm(parts) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", LOWERINGS)
def test_a_lowering_leaves_out_the_mean(name: str, norm: CenteredNorm) -> None:
    with LOWERINGS[name]():
        centered, moved = norm(values(0)), norm(values(4))
    assert (centered - norm(values(0))).abs().max() < 1e-5
    assert (moved - norm(values(4))).abs().max() > 0.5  # where there is one, it would be missed


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad])
def test_without_one_it_is_torchs_layer_norm(
    mode: type[AbstractContextManager[None]], norm: CenteredNorm
) -> None:
    x = values(4)
    with mode():
        assert torch.equal(norm(x), F.layer_norm(x, (WIDTH,), norm.weight, norm.bias, norm.eps))
