"""Teachers and students of one layer, so that what is around them can be tested quickly."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.distillation.teacher import Teacher

SIZE = 256
CONTRACT = Contract(SIZE, DEFAULT_POINTS, PLAIN_FORM)


def one_layer(seed: int) -> nn.Module:
    """(B, 3, S, S) -> (B, 256, S/16, S/16)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv2d(3, 256, 16, 16)


class Counted(nn.Module):
    """An encoder that tells of each call."""

    def __init__(self, encoder: nn.Module, on_call: Callable[[int], None]) -> None:
        super().__init__()
        self.encoder = encoder
        self.on_call = on_call

    def forward(self, image: Tensor) -> Tensor:
        self.on_call(len(image))
        found: Tensor = self.encoder(image)
        return found


def teacher(on_call: Callable[[int], None] = lambda _: None) -> Teacher:
    """A teacher of one layer, without a decoder."""
    return Teacher("one layer", "0" * 64, Counted(one_layer(0), on_call), {})
