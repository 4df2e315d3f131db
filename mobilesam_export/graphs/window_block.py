"""What TinyViT's transformer block is in every layout: its sizes, its bias, its convolution."""

from torch import Tensor, nn

from mobilesam_export.graphs import folding
from mobilesam_export.model import tiny_vit


class WindowBlock(nn.Module):
    """Base of the blocks of each layout.

    Sizes are plain numbers, fixed here, so that no graph reads a shape.

    Attributes:
        side: of the square map, in tokens.
        window: side of a window.
        windows: in a row.
        padded: side of the map when it is padded to whole windows.
        tokens: in a window.
        width: channels, C.
        heads: of the attention.
        gelu: as torch names it, "none" or "tanh".
        bias: (1, heads, tokens, tokens) float32, baked from the loaded checkpoint.
    """

    bias: Tensor

    def __init__(
        self,
        block: tiny_vit.TinyViTBlock,
        attention: folding.AttentionWeights,
        side: int,
        gelu: str,
    ) -> None:
        super().__init__()
        self.side, self.window, self.gelu = side, block.window, gelu
        self.windows = -(-side // block.window)
        self.padded = self.windows * block.window
        self.tokens = block.window**2
        self.heads, self.width = block.attn.heads, attention.q.shape[0]
        self.register_buffer("bias", attention.bias.float()[None])
        self.local_conv = folding.fold_batch_norm(block.local_conv)
