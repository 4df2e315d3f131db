"""The encoder in tiles of rows computes the same, and never holds a large map."""

from functools import cache
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs, tiled
from mobilesam_export.graphs.tiled import Rows, input_rows, split_rows
from mobilesam_export.model import build_sam
from mobilesam_export.target import GraphForm
from tests.conftest import mobilesam_state_dict

TOLERANCE = 2e-5  # on embeddings of about 4


class Largest(TorchFunctionMode):
    """Remembers how many elements the largest tensor had."""

    count = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.count = max(self.count, made.numel())
        return made


def encode(size: int, row_tiles: int) -> tuple[torch.Tensor, int]:
    """The embedding, and elements of the largest tensor for each pixel of the input."""
    sam = build_sam(mobilesam_state_dict(), size)
    form = GraphForm("channel-last", "uint8", "slots", row_tiles=row_tiles)
    generator = torch.Generator().manual_seed(size)
    image = torch.randint(0, 256, (1, size, size, 3), generator=generator, dtype=torch.uint8)
    module = split_graphs(sam, Contract(size, 6, form))[0].module
    with torch.no_grad(), Largest() as largest:
        return module(image), largest.count // size**2


@cache
def whole(size: int) -> tuple[torch.Tensor, int]:
    """The same without tiles."""
    return encode(size, 0)


# 448 has no padding in any stage of windows; 256 and 320 have it in all.
@pytest.mark.parametrize(("size", "row_tiles"), [(256, 1), (256, 8), (320, 16), (448, 4)])
def test_tiles_change_nothing(size: int, row_tiles: int) -> None:
    found, _ = encode(size, row_tiles)
    assert (found - whole(size)[0]).abs().max() <= TOLERANCE


# Tiles of one row of windows each, the last of them padded below, and of few rows of tokens.
@pytest.mark.parametrize("size", [256, 448])
def test_small_tiles_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = whole(size)
    monkeypatch.setattr(tiled, "MOST_WEIGHTS", 1 << 14)
    monkeypatch.setattr(tiled, "MOST_EXPANDED", 1 << 14)
    found, _ = encode(size, 4)
    assert (found - expected).abs().max() <= TOLERANCE


def test_no_map_in_tiles_has_more_than_three_elements_for_each_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert whole(448)[1] >= 16
    monkeypatch.setattr(tiled, "MOST_WEIGHTS", 448**2)
    monkeypatch.setattr(tiled, "MOST_EXPANDED", 448**2)
    assert encode(448, 8)[1] <= 3


@pytest.mark.parametrize("stride", [1, 2])
def test_needed_rows_are_those_that_a_convolution_sees(stride: int) -> None:
    x = torch.randn(1, 1, 12, 8, generator=torch.Generator().manual_seed(0))
    kernel = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.conv2d(x, kernel, stride=stride, padding=1)
    for rows in split_rows(12 // stride, 5):
        span = input_rows(rows, stride, 12)
        padded = torch.nn.functional.pad(
            x[:, :, span.start : span.end], (1, 1, span.top, span.bottom)
        )
        found = torch.nn.functional.conv2d(padded, kernel, stride=stride)
        assert torch.equal(found, expected[:, :, rows.start : rows.end])


def test_rows_are_split_without_gaps_and_evenly() -> None:
    assert split_rows(19, 4) == [Rows(0, 4), Rows(4, 9), Rows(9, 14), Rows(14, 19)]
