"""What lies beyond the part of the square that the encoder computes: padding, as it became there.

Padding is zeros only in front of the first layer. A transformer block that ends early would find
zeros again where its last windows and its convolution reach over the edge, and from there errors
come closer to the image with each block. So each block has, as constants, what it would find there
in a square of padding alone.
"""

import torch
from torch import Tensor, nn

from mobilesam_export.contract.frame import Frame


class NothingBeyond:
    """The map ends where the square does: nothing is added and nothing cut off."""

    def buffers(self) -> tuple[Tensor, ...]:
        return ()

    def channel_last(self) -> "NothingBeyond":
        return self

    def filled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def fill_windows(self, x: Tensor) -> Tensor:
        return x

    def add_edge(self, x: Tensor) -> Tensor:
        return x

    def crop(self, x: Tensor) -> Tensor:
        return x


class Beyond(nn.Module):
    """Features of padding below a block's map, or to the right of it.

    Args:
        windows: what fills the block's last windows, n rows (1, C, n, W) or columns (1, C, H, n).
            The square may end before they do; then zeros follow, as in the square.
        edge: the row or column that the convolution reaches over the edge, n = 1.
        end: rows or columns of the map.
        rows: whether it is rows that end early.
        channel_last: whether maps are (1, H, W, C), and so are windows and edge.
    """

    windows: Tensor
    edge: Tensor

    def __init__(
        self, windows: Tensor, edge: Tensor, end: int, *, rows: bool, channel_last: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("windows", windows, persistent=False)
        self.register_buffer("edge", edge, persistent=False)
        self.end, self.rows = end, rows
        self.axis = (1 if channel_last else 2) + (0 if rows else 1)

    @staticmethod
    def cut(before: Tensor, between: Tensor, size: Frame, window: int) -> "Beyond":
        """Of what a block has for a square of padding alone.

        Args:
            before: its input, (1, C, S / stride, S / stride).
            between: the input of its convolution, of the same shape.
            size: of the encoder's input, a rectangle that ends before the square.
            window: side of the block's windows.
        """
        rows, count = size.height < size.width, before.shape[2]
        axis = 2 if rows else 3
        end = min(size.computed) * count // size.side
        last = min(end + -end % window, count)
        windows, edge = before.narrow(axis, end, last - end), between.narrow(axis, end, 1)
        return Beyond(windows.clone(), edge.clone(), end, rows=rows)

    def channel_last(self) -> "Beyond":
        """The same for maps (1, H, W, C)."""
        windows, edge = (x.permute(0, 2, 3, 1).contiguous() for x in (self.windows, self.edge))
        return Beyond(windows, edge, self.end, rows=self.rows, channel_last=True)

    def filled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a map of this size whose windows are filled."""
        more = self.windows.shape[self.axis]
        return (size[0] + more, size[1]) if self.rows else (size[0], size[1] + more)

    def fill_windows(self, x: Tensor) -> Tensor:
        """A map with what its last windows reach."""
        filled = self.windows.shape[self.axis]
        return torch.cat([x, self.windows], self.axis) if filled else x

    def add_edge(self, x: Tensor) -> Tensor:
        """A map, with or without what fills its windows -> with what its convolution reaches."""
        return torch.cat([self.crop(x), self.edge], self.axis)

    def crop(self, x: Tensor) -> Tensor:
        """A map without what lies beyond it."""
        if x.shape[self.axis] == self.end:
            return x
        return x.narrow(self.axis, 0, self.end)
