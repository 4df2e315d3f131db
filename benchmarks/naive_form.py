"""MobileSAM in the form in which the official code is written, as a baseline for converters.

The weights are those of a loaded `Sam`; nothing is folded. Windows are cut by one transpose of a
tensor with six axes, q, k and v come from one projection that is split, tokens go back and forth
between (1, tokens, C) and (1, C, H, W), and every normalisation stays where it is. Written from
the architecture for this comparison; `tests/test_tflite_benchmark.py` holds it to the model.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.contract import Array
from mobilesam_export.model import Sam, tiny_vit
from mobilesam_export.quiet import quiet_descriptors


class NaiveBlock(nn.Module):
    """A transformer block on (1, tokens, C), with its window partition of rank 6."""

    bias: Tensor

    def __init__(self, block: tiny_vit.TinyViTBlock, side: int) -> None:
        super().__init__()
        self.side, self.window = side, block.window
        self.attn, self.local_conv, self.mlp = block.attn, block.local_conv, block.mlp
        self.register_buffer("bias", block.attn.bias().detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        side, ws = self.side, self.window
        extra = -side % ws
        count = (side + extra) // ws
        y = x.view(batch, side, side, width)
        if extra:
            y = F.pad(y, (0, 0, 0, extra, 0, extra))
        y = y.view(batch, count, ws, count, ws, width).transpose(2, 3)
        y = self._attend(y.reshape(batch * count * count, ws * ws, width))
        y = y.view(batch, count, count, ws, ws, width).transpose(2, 3)
        y = y.reshape(batch, side + extra, side + extra, width)
        if extra:
            y = y[:, :side, :side].contiguous()
        x = x + y.view(batch, tokens, width)
        y = x.transpose(1, 2).reshape(batch, width, side, side)
        x = self.local_conv(y).view(batch, width, tokens).transpose(1, 2)
        out: Tensor = x + self.mlp(x)
        return out

    def _attend(self, x: Tensor) -> Tensor:
        windows, tokens, width = x.shape
        heads = self.attn.heads
        depth = width // heads
        qkv = self.attn.qkv(self.attn.norm(x)).view(windows, tokens, heads, 3 * depth)
        q, k, v = (part.permute(0, 2, 1, 3) for part in qkv.split([depth] * 3, dim=3))
        logits = (q @ k.transpose(-2, -1)) * depth**-0.5 + self.bias
        y = (logits.softmax(dim=-1) @ v).transpose(1, 2)
        out: Tensor = self.attn.proj(y.reshape(windows, tokens, width))
        return out


class NaiveMerging(nn.Module):
    """PatchMerging from a map or tokens to tokens."""

    def __init__(self, merging: tiny_vit.PatchMerging, side: int) -> None:
        super().__init__()
        self.merging, self.side = merging, side

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            x = x.view(x.shape[0], self.side, self.side, -1).permute(0, 3, 1, 2)
        out: Tensor = self.merging(x).flatten(2).transpose(1, 2)
        return out


class NaiveEncoder(nn.Module):
    """(1, 3, S, S) float32, normalised -> (1, 256, S/16, S/16)."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        encoder = sam.image_encoder
        self.side = sam.image_size // 16
        layers: list[nn.Module] = [encoder.patch_embed]
        for stage, stride in zip(encoder.layers, tiny_vit.STRIDES, strict=True):
            assert isinstance(stage, tiny_vit.Stage)  # noqa: S101 - for mypy
            side = sam.image_size // stride
            for block in stage.blocks:
                transformer = isinstance(block, tiny_vit.TinyViTBlock)
                layers.append(NaiveBlock(block, side) if transformer else block)  # type: ignore[arg-type]
            if stage.downsample is not None:
                layers.append(NaiveMerging(stage.downsample, side))
        self.layers = nn.Sequential(*layers)
        self.neck = encoder.neck

    def forward(self, image: Tensor) -> Tensor:
        x = self.layers(image)
        x = x.view(x.shape[0], self.side, self.side, -1).permute(0, 3, 1, 2)
        out: Tensor = self.neck(x)
        return out


class NaiveDecoder(nn.Module):
    """The model's own modules, with labels as arithmetic: as it is, it does not convert.

    Takes what SAM's own ONNX decoder takes: any labels, -1 being "not a point".
    """

    image_pe: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.prompt, self.decoder, self.side = sam.prompt_encoder, sam.mask_decoder, sam.image_size
        self.register_buffer("image_pe", sam.prompt_encoder.image_pe())

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        labels = point_labels[:, :, None]
        sparse = self.prompt.pe_layer((point_coords + 0.5) / self.side)
        sparse = sparse * (labels != -1).to(torch.float32)
        sparse = sparse + self.prompt.not_a_point_embed.weight * (labels == -1).to(torch.float32)
        for code, table in enumerate(self.prompt.point_embeddings):
            sparse = sparse + table.get_parameter("weight") * (labels == code).to(torch.float32)
        dense = has_mask_input * self.prompt.mask_downscaling(mask_input)
        no_mask = self.prompt.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = dense + (1 - has_mask_input) * no_mask
        out: tuple[Tensor, Tensor] = self.decoder(image_embeddings, self.image_pe, sparse, dense)
        return out


def convert_onnx(module: nn.Module, inputs: Mapping[str, Array], path: Path) -> None:
    """What torch.onnx makes of a module as it is, by its inputs' names and order."""
    tensors = tuple(torch.from_numpy(values) for values in inputs.values())
    with quiet_descriptors(), torch.no_grad():
        program = torch.onnx.export(module, tensors, dynamo=True, input_names=list(inputs))
    assert program is not None  # noqa: S101 - with dynamo there is one
    program.save(path)
