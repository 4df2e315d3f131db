"""A narrower encoder made from a wider one: what is chosen, and how near it comes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.distillation.arithmetic import normalized
from mobilesam_export.distillation.channels import can_narrow, choose
from mobilesam_export.distillation.narrowing import narrow_down
from mobilesam_export.model import build_sam
from mobilesam_export.model.architecture import Architecture, load_architecture
from mobilesam_export.model.tiny_vit import TinyViT
from mobilesam_export.scenes import scene

SIZE = 256
TINY = load_architecture("tiny")
WIDE = Architecture((48, 96, 96, 192), (1, 1, 1, 1), (0, 3, 3, 6), (0, 7, 14, 7))


def encoder(architecture: Architecture, salt: int) -> TinyViT:
    return build_sam(seeded_state_dict(salt, architecture), SIZE).image_encoder.eval()


def images(first: int, count: int) -> list[Tensor]:
    squares = (scene(first + number, SIZE, SIZE) for number in range(count))
    return [normalized(torch.from_numpy(np.array(item))[None]) for item in squares]


@torch.no_grad()
def decibels(wide: TinyViT, narrow: TinyViT) -> float:
    """PSNR of the embedding of images that nothing was fitted on."""
    pairs = [(wide(image), narrow(image)) for image in images(100, 2)]
    error = torch.stack([(x - y).square().mean() for x, y in pairs]).mean()
    peak = max(float(x.abs().max()) for x, _ in pairs)
    return 10 * math.log10(peak**2 / float(error))


def test_an_encoder_as_wide_as_before_computes_the_same() -> None:
    wide, narrow = encoder(TINY, 1), encoder(TINY, 2)
    narrow_down(wide, narrow, TINY, images(0, 1))
    assert decibels(wide, narrow) > 80  # float64's solution is stored in float32


def test_a_narrower_encoder_comes_near_on_other_images() -> None:
    wide, narrow = encoder(WIDE, 1), encoder(TINY, 2)
    before = decibels(wide, narrow)
    narrow_down(wide, narrow, TINY, images(0, 4))
    assert decibels(wide, narrow) > before + 8  # 3 dB half, 8 dB a sixth of the squared error


@given(rank=st.integers(1, 5), copies=st.integers(1, 3), seed=st.integers(0, 99))
def test_channels_that_say_everything_are_chosen(rank: int, copies: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    independent = random.normal(size=(50, rank))
    channels = np.tile(independent, copies)[:, random.permutation(rank * copies)]
    chosen = choose(
        torch.from_numpy(np.cov(channels.T).reshape(rank * copies, -1)),
        torch.from_numpy(random.normal(size=(8, rank * copies))),
        rank,
    )
    assert np.linalg.matrix_rank(channels[:, chosen.numpy()]) == rank
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_a_channel_that_no_output_needs_is_left_out() -> None:
    weight = torch.tensor([[1.0, 0.0, 1.0]])
    assert choose(torch.diag(torch.tensor([1.0, 100.0, 2.0])).double(), weight, 2).tolist() == [
        0,
        2,
    ]


@pytest.mark.parametrize(
    ("narrow", "fits"),
    [
        (TINY, True),
        (WIDE, True),
        (Architecture((48, 96, 96, 256), WIDE.depths, (0, 3, 3, 8), WIDE.windows), False),
        (Architecture(TINY.widths, TINY.depths, (0, 4, 4, 8), TINY.windows), False),
        (Architecture(TINY.widths, (1, 1, 2, 1), TINY.heads, TINY.windows), False),
        (Architecture(TINY.widths, TINY.depths, TINY.heads, (0, 7, 7, 7)), False),
    ],
    ids=["narrower", "same", "wider", "heads_of_another_width", "deeper", "other_windows"],
)
def test_only_channels_and_heads_may_be_fewer(narrow: Architecture, fits: bool) -> None:
    assert can_narrow(WIDE, narrow) is fits
