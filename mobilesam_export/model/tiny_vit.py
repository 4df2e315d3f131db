"""TinyViT-5M, the image encoder that MobileSAM distils from SAM's ViT-H.

Shapes use B batch, C channels, H x W the feature map, S the side of the square input.
Architecture: TinyViT (Wu et al., 2022, arXiv:2207.10666) as MobileSAM (Zhang et al., 2023,
arXiv:2306.14289) changes it: no down-sampling before the last stage, and SAM's neck.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.model.architecture import MOBILESAM, STAGES, Architecture
from mobilesam_export.model.beyond import Beyond, NothingBeyond

STRIDES = (4, 8, 16, 16)  # pixels of the input per feature of each stage
MLP_RATIO = 4
EMBEDDING_WIDTH = 256  # channels of the image embedding, shared with SAM's decoder


class Conv2dBN(nn.Sequential):
    """Convolution without bias, then batch normalisation."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, width_in: int, width_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.add_module(
            "c",
            nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        )
        self.add_module("bn", nn.BatchNorm2d(width_out))


class PatchEmbed(nn.Module):
    """(B, 3, S, S) -> (B, width, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            Conv2dBN(3, width // 2, 3, stride=2),
            nn.GELU(),
            Conv2dBN(width // 2, width, 3, stride=2),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.seq(image)


class MBConv(nn.Module):
    """Inverted bottleneck with a residual: 1x1 expand, 3x3 depthwise, 1x1 project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * MLP_RATIO
        self.conv1 = Conv2dBN(width, hidden)
        self.conv2 = Conv2dBN(hidden, hidden, 3, groups=hidden)
        self.conv3 = Conv2dBN(hidden, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> same
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(self.conv3(y) + x)


class PatchMerging(nn.Module):
    """Change the width between two stages and, where `stride` is 2, halve the map."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2dBN(width_in, width_out)
        self.conv2 = Conv2dBN(width_out, width_out, 3, stride, groups=width_out)
        self.conv3 = Conv2dBN(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return self.conv3(y)


def attention_offsets(window: int) -> Tensor:
    """Column of `attention_biases` for each pair of tokens, as in TinyViT's checkpoints.

    Two pairs of tokens share a learned bias when their |dy| and |dx| agree; distances are
    numbered in the order in which a scan over all pairs first meets them, which is that of the
    first token's: |dy| * window + |dx|.

    Returns:
        (window**2, window**2) int64, the column of `attention_biases` for each pair.
    """
    along = torch.arange(window)
    distance = (along[:, None] - along).abs()
    columns = distance[:, None, :, None] * window + distance[None, :, None, :]
    return columns.reshape(window**2, window**2)


class Attention(nn.Module):
    """Multi-head attention inside windows, with a learned bias for each distance."""

    offsets: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("offsets", attention_offsets(window), persistent=False)

    def bias(self) -> Tensor:
        """(heads, tokens, tokens) float32, added to the attention logits.

        Gathered anew from the parameter on each call. The official code caches it when
        `eval()` is called, and its builder calls that *before* loading the checkpoint, so its
        models run with zeros until `eval()` is called again.
        """
        return self.attention_biases[:, self.offsets]

    def forward(self, x: Tensor) -> Tensor:  # (windows, tokens, C) -> same
        windows, tokens, width = x.shape
        # The width of qkv is ordered by head, then q, k, v.
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.heads, 3, -1)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # each (windows, heads, tokens, width / heads)
        logits = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5 + self.bias()
        y = logits.softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(windows, tokens, width))


class Mlp(nn.Module):
    """Per-token LayerNorm and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * MLP_RATIO)
        self.fc2 = nn.Linear(width * MLP_RATIO, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise 3x3 convolution, and an MLP.

    Attributes:
        beyond: what the block finds where a rectangle ends before the square.
    """

    beyond: Beyond | NothingBeyond

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window, self.beyond = window, NothingBeyond()
        self.attn = Attention(width, heads, window)
        self.mlp = Mlp(width)
        self.local_conv = Conv2dBN(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> same
        x = self.beyond.fill_windows(x)
        x = x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.beyond.crop(self.local_conv(self.beyond.add_edge(x)))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:  # (B, H, W, C) -> same
        batch, height, width, channels = x.shape
        ws = self.window
        # Padding joins the attention: after LayerNorm a zero token is the norm's bias.
        x = F.pad(x, (0, 0, 0, -width % ws, 0, -height % ws))
        rows, columns = x.shape[1] // ws, x.shape[2] // ws
        x = x.view(batch, rows, ws, columns, ws, channels).transpose(2, 3)
        x = self.attn(x.reshape(-1, ws * ws, channels))
        x = x.view(batch, rows, columns, ws, ws, channels).transpose(2, 3)
        x = x.reshape(batch, rows * ws, columns * ws, channels)
        return x[:, :height, :width]


class Stage(nn.Module):
    """The blocks of one resolution, then the patch merging to the next."""

    def __init__(self, index: int, architecture: Architecture) -> None:
        super().__init__()
        width = self.width = architecture.widths[index]
        heads, window = architecture.heads[index], architecture.windows[index]
        self.blocks = nn.ModuleList(
            MBConv(width) if index == 0 else TinyViTBlock(width, heads, window)
            for _ in range(architecture.depths[index])
        )
        self.downsample: PatchMerging | None = None
        if index + 1 < STAGES:
            stride = STRIDES[index + 1] // STRIDES[index]
            self.downsample = PatchMerging(width, architecture.widths[index + 1], stride)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), epsilon 1e-6."""

    eps = 1e-6

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class TinyViT(nn.Module):
    """(B, 3, S, S) float32, normalised RGB -> (B, 256, S/16, S/16) float32."""

    def __init__(self, architecture: Architecture = MOBILESAM) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(architecture.widths[0])
        self.layers = nn.ModuleList(Stage(index, architecture) for index in range(STAGES))
        width = architecture.widths[-1]
        # The classifier of TinyViT's pre-training: in every checkpoint, never run.
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(width, EMBEDDING_WIDTH, 1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
            nn.Conv2d(EMBEDDING_WIDTH, EMBEDDING_WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)
