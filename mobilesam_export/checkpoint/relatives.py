"""Which model a checkpoint belongs to, by the names that only its project writes.

Sources are the projects' own code: MobileSAM and MobileSAMv2 (ChaoningZhang/MobileSAM), EdgeSAM
(chongzhou96), EfficientSAM3 and in it SAM 3 (SimonZeng7108), HQ-SAM (SysCV), LiteMedSAM
(bowang-lab/MedSAM), EfficientSAM (yformer), FastSAM and in it ultralytics (CASIA-IVA-Lab), SAMed
(hitachinsk), Medical-SAM-Adapter and in it loralib (KidsWithTokens), SAM-Med2D (OpenGVLab),
SAM-Adapter (tianrun-chen). TinySAM has the names, the shapes and the function of MobileSAM.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Addition:
    """Parameters that change what a model computes, whatever the model is.

    Attributes:
        pattern: a regular expression that some of their names match.
        name: what to call the model, with {} for its own name.
        advice: what to do, for users.
    """

    pattern: str
    name: str
    advice: str


CHANGED = "a changed MobileSAM"
NO_EXPORT = "only MobileSAM itself can be exported"
ADDITIONS = (
    Addition(r"(^|\.)(hf_token|hf_mlp|compress_vit_feat)\.", "{}", NO_EXPORT),
    Addition(
        r"(^|\.|_)lora_|(^|\.)w_[ab]_\d+$|\.linear_[ab]_[qkv]\.",
        "{} with LoRA",
        "merge the LoRA weights into the model (peft: merge_and_unload) and save its state_dict()",
    ),
    Addition(r"(?i)(^|\.|_)adapter|(^|\.)prompt_generator\.", "{} with adapters", NO_EXPORT),
    Addition(
        r"fake_quant|activation_post_process|\._packed_params",
        "{} prepared for quantization",
        "give the checkpoint from before that; recipes quantize on export",
    ),
    Addition(
        r"\.(weight|bias)_(orig|mask)$",
        "{} pruned by masks",
        "call torch.nn.utils.prune.remove on each pruned layer and save the state_dict()",
    ),
)


def recognize(values: Mapping[str, object]) -> str:
    """Name the model that values of a file belong to; MobileSAM itself may be changed."""
    names = _Names(values)
    model = _hq(names) if names.have(ADDITIONS[0].pattern) else _model(names)
    for addition in ADDITIONS:
        if names.have(addition.pattern):
            model = addition.name.format("MobileSAM" if model == CHANGED else model)
    return model


def advice(values: Mapping[str, object]) -> str:
    """Advice for the user."""
    names = _Names(values)
    for addition in ADDITIONS:
        if names.have(addition.pattern):
            return addition.advice
    return "see `mobilesam-export checkpoint inspect`"


def additions(names: Sequence[str]) -> list[str]:
    """Those of `names` that change what a model computes, wherever they lie."""
    return [name for name in names if any(re.search(item.pattern, name) for item in ADDITIONS)]


class _Names:
    """The names of a file, to be searched by their parts, whatever stands before them."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def have(self, pattern: str) -> bool:
        expression = re.compile(pattern)
        return any(expression.search(name) for name in self._values)

    def shape(self, ending: str) -> tuple[int, ...]:
        """Of the first tensor whose name ends so; empty if there is none."""
        for name, value in self._values.items():
            if f".{name}".endswith(f".{ending}") and isinstance(value, Tensor):
                return tuple(value.shape)
        return ()


def _hq(names: _Names) -> str:
    """HQ-SAM adds a token and three small networks to the mask decoder of another SAM."""
    if names.have(r"(^|\.)sam_mask_decoder\."):
        return "HQ-SAM 2"
    if names.have(r"attention_biases$"):
        return "Light HQ-SAM"
    if names.have(r"(^|\.)patch_embed\."):
        return f"HQ-SAM ({_model(names)})"
    return "the mask decoder of HQ-SAM alone"


def _model(names: _Names) -> str:
    """The first of MODELS that has a name in the file."""
    for pattern, name in MODELS:
        if names.have(pattern):
            return name if isinstance(name, str) else name(names)
    return "no model known here"


def _rep_vit(names: _Names) -> str:
    """Both have RepViT's encoder; EdgeSAM's is the small m1, with 24 channels in its stem."""
    small = names.shape("features.0.0.c.weight")[:1] == (24,)
    return "EdgeSAM" if small or names.have(r"(^|\.)fuse_stage2\.") else "RepViT-SAM"


def _vit(names: _Names) -> str:
    models: dict[tuple[int, ...], str] = {
        (192,): "EfficientSAM-Ti",
        (384,): "EfficientSAM-S",
        (768,): "SAM ViT-B",
        (1024,): "SAM ViT-L",
        (1280,): "SAM ViT-H",
    }
    return models.get(names.shape("pos_embed")[-1:], "a SAM with another ViT")


def _student(names: _Names) -> str:
    if names.have(r"(^|\.)model\.features\."):
        return "EfficientSAM3 (a RepViT student of SAM 3)"
    if names.have(r"(^|\.)model\.(input_stem|stages)\."):
        return "EfficientSAM3 (an EfficientViT student of SAM 3)"
    return f"EfficientSAM3 (a {_size(names)} student of SAM 3)"


def _size(names: _Names) -> str:
    """TinyViT's three sizes differ in width, all of them from the third stage on."""
    sizes: dict[tuple[int, ...], str] = {
        (160,): "TinyViT-5M",
        (256,): "TinyViT-11M",
        (384,): "TinyViT-21M",
    }
    return sizes.get(names.shape("layers.2.blocks.0.attn.norm.weight"), "TinyViT")


def _tiny_vit(names: _Names) -> str:
    size = _size(names)
    if names.have(r"(^|\.)fuse_stage2\."):
        return f"EfficientSAM3 (a {size} student of SAM)"
    if names.shape("patch_embed.seq.0.c.weight")[2:] == (1, 1):
        return "LiteMedSAM"
    if names.have(r"(^|\.)mask_decoder\."):
        return CHANGED if size == "TinyViT-5M" else f"a SAM with {size}"
    if names.have(r"(^|\.)(neck\.0|image_encoder)\."):
        return f"the image encoder of a MobileSAM alone ({size})"
    return f"a {size} classifier"


# From the most to the least particular: several have SAM's decoder, and some SAM 2's names.
MODELS: tuple[tuple[str, str | Callable[[_Names], str]], ...] = (
    (r"(^|\.)(backbone\.model|vision_backbone\.trunk\.model)\.", _student),
    (r"(^|\.)vision_backbone\.", "SAM 3"),
    (r"(^|\.)(image_encoder\.trunk|sam_mask_decoder|memory_attention)\.", "SAM 2"),
    (r"(^|\.)(vision_encoder|shared_image_embedding)\.", "a SAM of the transformers library"),
    (r"(^|\.)backbone\.(input_stem|stages)\.", "EfficientViT-SAM"),
    (r"(^|\.)features\.0\.0\.c\.weight$", _rep_vit),
    (r"(^|\.)pos_embed$", _vit),
    (r"(^|\.)model\.0\.conv\.weight$", "a YOLO model (FastSAM is one)"),
    (r"attention_biases$|(^|\.)patch_embed\.seq\.", _tiny_vit),
    # so spelled there
    (r"(^|\.)PromtEncoder\.", "the prompt-guided decoder of MobileSAMv2 alone"),
    (r"(^|\.)mask_decoder\.", "the mask decoder of a SAM alone"),
)
