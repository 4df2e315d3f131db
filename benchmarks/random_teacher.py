"""SAM's own encoders with random weights, which take as long as trained ones, as teachers."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.distillation.teacher import ENCODER
from mobilesam_export.model.vit import ImageEncoderViT, VitShape

# Of segment-anything's `build_sam_vit_b` and `build_sam_vit_h`.
VIT_B = VitShape(768, 12, 12, 3072, 64, 14, frozenset((2, 5, 8, 11)))
VIT_H = VitShape(1280, 32, 16, 5120, 64, 14, frozenset((7, 15, 23, 31)))


def random_encoder(shape: VitShape, device: str = "cpu") -> ImageEncoderViT:
    """An encoder in eval mode, without gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        encoder = ImageEncoderViT(shape)
    for parameter in encoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    return encoder.eval().requires_grad_(False)


def save_teacher(encoder: ImageEncoderViT, path: Path) -> None:
    """Write it with the demo weights' decoder, in the official format."""
    entries = {ENCODER + name: value.cpu() for name, value in encoder.state_dict().items()}
    demo = load_checkpoint("demo").state_dict
    entries |= {name: value for name, value in demo.items() if not name.startswith(ENCODER)}
    save_file({name: value.contiguous() for name, value in entries.items()}, path)
