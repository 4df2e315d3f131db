"""Other models are called by their names, in `inspect` and where an export is refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from mobilesam_export.checkpoint.load import inspect_checkpoint, load_checkpoint
from mobilesam_export.checkpoint.relatives import advice, recognize
from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import expected_entries
from tests.cli_runner import ERROR, refused

Shapes = Mapping[str, tuple[int, ...]]
MOBILE_SAM: Shapes = {name: tuple(like.shape) for name, like in expected_entries().items()}
DECODER: Shapes = {name: s for name, s in MOBILE_SAM.items() if name.startswith("mask_decoder.")}
ENCODER: Shapes = {name: s for name, s in MOBILE_SAM.items() if name.startswith("image_encoder.")}
BLOCK = "image_encoder.layers.1.blocks.0"
VIT = "image_encoder.pos_embed"
REPVIT = "image_encoder.features.0.0.c.weight"
STUDENT = "detector.backbone.vision_backbone.trunk.model.backbone.model"


def without(shapes: Shapes, part: str) -> Shapes:
    """Names that do not have the part, as after a layer was replaced."""
    return {name: shape for name, shape in shapes.items() if part not in name}


def inside(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def bare(shapes: Shapes) -> Shapes:
    return {name.partition(".")[2]: shape for name, shape in shapes.items()}


def tiny_vit(width: int) -> Shapes:
    """The layer that tells TinyViT's sizes apart, and what any TinyViT has."""
    return {
        "patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "layers.2.blocks.0.attn.norm.weight": (width,),
        "layers.1.blocks.0.attn.attention_biases": (4, 49),
    }


# Names and shapes as each project writes them, far fewer than it has.
RELATIVES: dict[str, tuple[str, Shapes]] = {
    "EdgeSAM": (
        "EdgeSAM",
        {REPVIT: (24, 3, 3, 3), "image_encoder.fuse_stage2.weight": (256, 192, 1, 1)},
    ),
    "EdgeSAM without fusion": ("EdgeSAM", {REPVIT: (24, 3, 3, 3)}),
    "RepViT-SAM": ("RepViT-SAM", {REPVIT: (32, 3, 3, 3)}),
    "ViT-B": ("SAM ViT-B", {VIT: (1, 64, 64, 768), **DECODER}),
    "ViT-L": ("SAM ViT-L", {VIT: (1, 64, 64, 1024), **DECODER}),
    "ViT-H": ("SAM ViT-H", {VIT: (1, 64, 64, 1280), **DECODER}),
    "MedSAM while training": ("SAM ViT-B", inside("model.module", {VIT: (1, 64, 64, 768)})),
    "SAM-Med2D": (
        "SAM ViT-B with adapters",
        {VIT: (1, 16, 16, 768), "image_encoder.blocks.0.Adapter.channel.0.weight": (192, 768)},
    ),
    "EfficientSAM": ("EfficientSAM-Ti", {VIT: (1, 197, 192)}),
    "SAM 2": ("SAM 2", inside("model", {"image_encoder.trunk.pos_embed": (1, 96, 7, 7)})),
    "SAM 3": ("SAM 3", {"detector.backbone.vision_backbone.trunk.pos_embed": (1, 577, 1024)}),
    "transformers": ("a SAM of the transformers library", {"vision_encoder.pos_embed": (1,)}),
    "EfficientViT-SAM": (
        "EfficientViT-SAM",
        {"image_encoder.backbone.input_stem.op_list.0.conv.weight": (32, 3, 3, 3)},
    ),
    "YOLO": ("a YOLO model (FastSAM is one)", {"model.0.conv.weight": (64, 3, 3, 3)}),
    "Light HQ-SAM": (
        "Light HQ-SAM",
        {**MOBILE_SAM, "mask_decoder.hf_token.weight": (1, 256)},
    ),
    "HQ-SAM": (
        "HQ-SAM (SAM ViT-L)",
        {
            VIT: (1, 64, 64, 1024),
            "image_encoder.patch_embed.proj.weight": (1024, 3, 16, 16),
            "mask_decoder.hf_token.weight": (1, 256),
        },
    ),
    "HQ-SAM while training": ("the mask decoder of HQ-SAM alone", {"hf_token.weight": (1, 256)}),
    "HQ-SAM 2": ("HQ-SAM 2", {"sam_mask_decoder.hf_token.weight": (1, 256)}),
    "loralib": ("MobileSAM with LoRA", {**MOBILE_SAM, f"{BLOCK}.attn.qkv.lora_A": (8, 128)}),
    "peft": (
        "MobileSAM with LoRA",
        inside(
            "base_model.model",
            {
                **without(MOBILE_SAM, "qkv"),
                f"{BLOCK}.attn.qkv.base_layer.weight": (384, 128),
                f"{BLOCK}.attn.qkv.lora_A.default.weight": (8, 128),
            },
        ),
    ),
    "Sam_LoRA": (
        "MobileSAM with LoRA",
        {
            **without(MOBILE_SAM, f"{BLOCK}.attn.qkv"),
            f"{BLOCK}.attn.qkv.qkv.weight": (384, 128),
            f"{BLOCK}.attn.qkv.linear_a_q.weight": (4, 128),
        },
    ),
    "SAMed": (
        "the mask decoder of a SAM alone with LoRA",
        {**DECODER, "w_a_000": (4, 768), "w_b_000": (768, 4)},
    ),
    "Medical-SAM-Adapter": (
        "MobileSAM with adapters",
        {**MOBILE_SAM, f"{BLOCK}.MLP_Adapter.D_fc1.weight": (32, 128)},
    ),
    "pruned": (
        "MobileSAM pruned by masks",
        {
            **without(MOBILE_SAM, f"{BLOCK}.mlp.fc1.weight"),
            f"{BLOCK}.mlp.fc1.weight_orig": (512, 128),
            f"{BLOCK}.mlp.fc1.weight_mask": (512, 128),
        },
    ),
    "quantization-aware": (
        "MobileSAM prepared for quantization",
        {**MOBILE_SAM, f"{BLOCK}.mlp.fc1.weight_fake_quant.scale": (1,)},
    ),
    "MobileSAMv2's decoder": (
        "the prompt-guided decoder of MobileSAMv2 alone",
        {**inside("PromtEncoder", {"a": (1,)}), **inside("MaskDecoder", bare(DECODER))},
    ),
    "MobileSAMv2's encoder": (
        "the image encoder of a MobileSAM alone (TinyViT-5M)",
        inside("model", bare(ENCODER)),
    ),
    "TinyViT for ImageNet": ("a TinyViT-21M classifier", inside("model", tiny_vit(384))),
    "LiteMedSAM": (
        "LiteMedSAM",
        {**MOBILE_SAM, "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 1, 1)},
    ),
    "SAM with another TinyViT": (
        "a SAM with TinyViT-11M",
        {**inside("image_encoder", tiny_vit(256)), **DECODER},
    ),
    "EfficientSAM3, whole": (
        "EfficientSAM3 (a TinyViT-11M student of SAM 3)",
        inside(STUDENT, tiny_vit(256)),
    ),
    "EfficientSAM3, first stage": (
        "EfficientSAM3 (a TinyViT-5M student of SAM 3)",
        {**inside("backbone.model", tiny_vit(160)), "head.0.weight": (1024, 320, 1, 1)},
    ),
    "EfficientSAM3, RepViT": (
        "EfficientSAM3 (a RepViT student of SAM 3)",
        {f"{STUDENT}.features.0.0.c.weight": (24, 3, 3, 3)},
    ),
    "EfficientSAM3, EfficientViT": (
        "EfficientSAM3 (an EfficientViT student of SAM 3)",
        {f"{STUDENT}.input_stem.op_list.0.conv.weight": (16, 3, 3, 3)},
    ),
    "EfficientSAM3, SAM 1": (
        "EfficientSAM3 (a TinyViT-5M student of SAM)",
        {**MOBILE_SAM, "image_encoder.fuse_stage2.weight": (256, 160, 1, 1)},
    ),
    "one layer less": ("a changed MobileSAM", without(MOBILE_SAM, f"{BLOCK}.mlp")),
    "nothing known": ("no model known here", {"something": (1,)}),
}


@pytest.mark.parametrize("case", RELATIVES)
def test_another_model_is_called_by_its_name(case: str, tmp_path: Path) -> None:
    name, shapes = RELATIVES[case]
    path = tmp_path / "weights.pth"
    # One number each in the file, whatever the shape.
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, path)
    assert inspect_checkpoint(path).model == name
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(path))
    assert str(caught.value).startswith(f"{path} is not MobileSAM but {name}: ")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("peft", "merge the LoRA weights into the model (peft: merge_and_unload)"),
        ("Light HQ-SAM", "only MobileSAM itself can be exported"),
        ("pruned", "torch.nn.utils.prune.remove"),
        ("ViT-B", "checkpoint inspect"),
    ],
)
def test_what_to_do_depends_on_the_model(case: str, words: str) -> None:
    assert words in advice(RELATIVES[case][1])


def test_recognizing_needs_no_tensors() -> None:
    assert recognize({"optimizer.lr": 0.1}) == "no model known here"


def test_a_refused_export_names_the_model_and_its_parameters(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    shapes = RELATIVES["Medical-SAM-Adapter"][1]
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, path)
    phrases = [
        f"{path} is not MobileSAM but MobileSAM with adapters: 1 unexpected key ",
        f"{BLOCK}.MLP_Adapter.D_fc1.weight",
    ]
    refused(tmp_path, ["onnx", "-c", path], ERROR, phrases)
