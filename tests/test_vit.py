"""SAM's ViT encoder against transformers' SamVisionEncoder, with random weights of tiny sizes."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mobilesam_export.checkpoint.sam_vit import read_sam_vit
from mobilesam_export.distillation.teacher import load_teacher
from mobilesam_export.errors import CheckpointError
from mobilesam_export.model.vit import ImageEncoderViT, VitShape

# 16 tokens along a side, so that the windows of 7 are padded.
SHAPE = VitShape(
    width=24, depth=3, heads=3, mlp_width=40, side=16, window=7, whole_image=frozenset({1})
)
CPU = torch.device("cpu")


def random_encoder(seed: int = 0) -> ImageEncoderViT:
    encoder = ImageEncoderViT(SHAPE).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for parameter in encoder.parameters():
        parameter.normal_(0, 0.3, generator=random)
    return encoder


def image(side: int = 256) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def transformers_name(name: str) -> str:
    """An official name as transformers spells it."""
    pairs = (
        (r"patch_embed\.proj", "patch_embed.projection"),
        (r"blocks\.(\d+)\.norm", r"layers.\1.layer_norm"),
        (r"blocks\.", "layers."),
        (r"neck\.0", "neck.conv1"),
        (r"neck\.1", "neck.layer_norm1"),
        (r"neck\.2", "neck.conv2"),
        (r"neck\.3", "neck.layer_norm2"),
    )
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


def test_the_encoder_computes_what_transformers_computes() -> None:
    sam = pytest.importorskip("transformers.models.sam.modeling_sam")
    from transformers import SamVisionConfig

    config = SamVisionConfig(
        hidden_size=SHAPE.width,
        num_hidden_layers=SHAPE.depth,
        num_attention_heads=SHAPE.heads,
        mlp_dim=SHAPE.mlp_width,
        image_size=SHAPE.side * 16,
        window_size=SHAPE.window,
        global_attn_indexes=[*SHAPE.whole_image],
        output_channels=256,
        attn_implementation="eager",
    )
    reference = sam.SamVisionEncoder(config).eval()
    encoder = random_encoder()
    entries = {transformers_name(k): v for k, v in encoder.state_dict().items()}
    reference.load_state_dict(entries)  # strictly: every name and shape
    with torch.no_grad():
        expected = reference(image()).last_hidden_state
    torch.testing.assert_close(encoder(image()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [128, 320])
def test_other_image_sizes_interpolate_positions(side: int) -> None:
    assert random_encoder()(image(side)).shape == (2, 256, side // 16, side // 16)


def official_file(path: Path, state_dict: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    decoder = {k: v for k, v in state_dict.items() if not k.startswith("image_encoder.")}
    encoder = {f"image_encoder.{k}": v for k, v in random_encoder().state_dict().items()}
    entries = {prefix + k: v for k, v in {**encoder, **decoder}.items()}
    if path.suffix == ".pth":
        torch.save(entries, path)
    else:
        save_file(entries, path)
    return decoder


@pytest.mark.parametrize(("name", "prefix"), [("sam.pth", ""), ("sam.safetensors", "model.")])
def test_the_architecture_is_read_from_a_checkpoint(
    name: str, prefix: str, state_dict: dict[str, Tensor], tmp_path: Path
) -> None:
    decoder = official_file(tmp_path / name, state_dict, prefix)
    found = read_sam_vit(tmp_path / name)
    assert found is not None
    assert found.shape == SHAPE
    assert torch.equal(found.encoder(image()), random_encoder()(image()))
    assert found.decoder.keys() == decoder.keys()
    assert all(torch.equal(found.decoder[k], v) for k, v in decoder.items())


def test_a_vit_is_a_teacher(state_dict: dict[str, Tensor], tmp_path: Path) -> None:
    official_file(tmp_path / "sam.pth", state_dict)
    teacher = load_teacher(str(tmp_path / "sam.pth"), 320, CPU)
    assert teacher.embed(torch.zeros(1, 320, 320, 3, dtype=torch.uint8)).shape == (1, 256, 20, 20)
    assert teacher.notes == (
        "this teacher was trained at 256: its positions are interpolated for 320",
    )


def test_a_vit_without_a_decoder_or_a_block_is_refused(
    state_dict: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "sam.pth"
    official_file(path, {})
    with pytest.raises(CheckpointError, match="is missing or reshaped"):
        read_sam_vit(path)
    official_file(path, state_dict)
    entries = torch.load(path)
    del entries["image_encoder.blocks.1.norm1.weight"]
    torch.save(entries, path)
    with pytest.raises(CheckpointError, match="its encoder is incomplete"):
        read_sam_vit(path)


def test_another_model_is_none(state_dict: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state_dict, tmp_path / "mobile.safetensors")
    assert read_sam_vit(tmp_path / "mobile.safetensors") is None
