"""The common part of TinyViT's transformer block in all layouts: sizes and convolution."""

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.model import tiny_vit
from mobilesam_export.target import GraphForm

# An expanded map in chunks has at most so many elements for each pixel of the input: half as many
# as the stem's first map, so that with its GELU it is no longer what takes the most memory.
HIDDEN_PER_PIXEL = 4


def chunk_count(form: GraphForm, width: int, stride: int) -> int:
    """Into how many chunks the expanded channels of a map (width, H / stride, W / stride) go."""
    if not form.mlp_chunks:
        return 1
    return -(-width * tiny_vit.MLP_RATIO // (HIDDEN_PER_PIXEL * stride**2))


def sum_of_chunks(results: Iterable[Tensor]) -> Tensor:
    """The sum of what chunks give, to be added to the residual stream afterwards.

    What they give is small beside the stream, and so are the rounding errors of its float16 sums.
    With the stream first, each addition rounds as coarsely as the stream is large, which costs the
    embedding 2 dB.

    Args:
        results: computed one by one, each added before the next, so that few are held at a time.
    """
    return functools.reduce(torch.add, results)


class WindowBlock(nn.Module):
    """Base of the blocks of each layout.

    Sizes are plain numbers, fixed here, so that no graph reads a shape.

    Attributes:
        beyond: what a rectangle's map is filled up with, for windows and convolution.
        size: (height, width) of the map that attends, in tokens, with what fills its windows.
        window: side of a window.
        windows: how many there are in (a column, a row).
        padded: (height, width) of the map when it is padded to whole windows.
        tokens: in a window.
        width: channels, C.
        heads: of the attention.
        attention_eps: epsilon of the LayerNorm before attention; not 1e-5 once ranges are folded.
        mlp_eps: the same before the MLP.
        gelu: as torch names it, "none" or "tanh".
    """

    def __init__(
        self,
        block: tiny_vit.TinyViTBlock,
        attention: folding.AttentionWeights,
        size: tuple[int, int],
        gelu: str,
        *,
        channel_last: bool,
    ) -> None:
        super().__init__()
        self.beyond = block.beyond.channel_last() if channel_last else block.beyond
        self.size, self.window, self.gelu = block.beyond.filled_size(size), block.window, gelu
        self.windows = -(-self.size[0] // block.window), -(-self.size[1] // block.window)
        self.padded = self.windows[0] * block.window, self.windows[1] * block.window
        self.tokens = block.window**2
        self.attention_eps, self.mlp_eps = block.attn.norm.eps, block.mlp.norm.eps
        self.heads, self.width = block.attn.heads, attention.q.shape[0]
        self.local_conv = folding.fold_batch_norm(block.local_conv)
