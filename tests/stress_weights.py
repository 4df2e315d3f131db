"""Checkpoints made from a given one, in values as other networks have them.

The rules are those of the field's reports: inputs of LayerNorm that are too large for float16, and
channels of one layer that differ by a factor of a hundred. Networks of `scale_*` compute the same
function, but for `scale_mlp`, which scales across a GELU; that and `raise_channel` make another
network, which is held to its own answers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mobilesam_export.model import PIXEL_MEAN, PIXEL_STD, build_sam
from mobilesam_export.model.architecture import MOBILESAM, STAGES
from mobilesam_export.scenes import scene

ENCODER = "image_encoder"
SCENE = 7  # its seed
Weights = dict[str, Tensor]


def copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: value.clone() for name, value in weights.items()}


def scale_neck(weights: Mapping[str, Tensor], scale: float) -> Weights:
    """The input of both LayerNorms of the neck times `scale`, from about 0.05 up (epsilon)."""
    scaled = copied(weights)
    for index in (0, 2):
        scaled[f"{ENCODER}.neck.{index}.weight"] *= scale
    return scaled


def scale_streams(weights: Mapping[str, Tensor], scale: float) -> Weights:
    """The residual streams of stages 2 to 4 times `scale`, from 1 up (epsilon)."""
    scaled = copied(weights)
    for stage in range(1, STAGES):
        entry = f"{ENCODER}.layers.{stage - 1}.downsample.conv3.bn"
        names = [f"{entry}.weight", f"{entry}.bias"]
        for block in range(MOBILESAM.depths[stage]):
            inside = f"{ENCODER}.layers.{stage}.blocks.{block}"
            names += [f"{inside}.{part}.{x}" for part in ("attn.proj", "mlp.fc2") for x in XS]
            names += [f"{inside}.local_conv.bn.{x}" for x in ("bias", "running_mean")]
        for name in names:
            scaled[name] *= scale
        last = stage + 1 == STAGES
        exit_ = "neck.0.weight" if last else f"layers.{stage}.downsample.conv1.c.weight"
        scaled[f"{ENCODER}.{exit_}"] /= scale
    return scaled


XS = ("weight", "bias")


def scale_heads(weights: Mapping[str, Tensor], sigma: float, seed: int) -> Weights:
    """Channels of q against k and of v against proj, by factors exp(sigma * normal)."""
    scaled, generator = copied(weights), torch.Generator().manual_seed(seed)
    for stage in range(1, STAGES):
        heads, width = MOBILESAM.heads[stage], MOBILESAM.widths[stage]
        for block in range(MOBILESAM.depths[stage]):
            name = f"{ENCODER}.layers.{stage}.blocks.{block}.attn"
            shape = (heads, width // heads)
            keys, values = (
                torch.exp(sigma * torch.randn(shape, generator=generator)) for _ in range(2)
            )
            factors = torch.cat([keys, 1 / keys, values], dim=1).reshape(-1)
            scaled[f"{name}.qkv.weight"] *= factors[:, None]
            scaled[f"{name}.qkv.bias"] *= factors
            scaled[f"{name}.proj.weight"] /= values.reshape(1, -1)
    return scaled


def scale_mlp(weights: Mapping[str, Tensor], sigma: float, seed: int) -> Weights:
    """Rows of fc1 against columns of fc2, by factors exp(sigma * normal)."""
    scaled, generator = copied(weights), torch.Generator().manual_seed(seed)
    found = [key.removesuffix(".fc1.weight") for key in weights if key.endswith(".mlp.fc1.weight")]
    for name in found:
        factors = torch.randn(len(scaled[f"{name}.fc1.bias"]), generator=generator)
        factors = torch.exp(sigma * factors)
        scaled[f"{name}.fc1.weight"] *= factors[:, None]
        scaled[f"{name}.fc1.bias"] *= factors
        scaled[f"{name}.fc2.weight"] /= factors
    return scaled


def raise_channel(weights: Mapping[str, Tensor], spreads: float, channel: int) -> Weights:
    """A channel of the last stage's residual stream raised by so many standard deviations.

    The deviation is that of the stream after the stage's first block, on a scene of 256 x 256.
    """
    sam, block, seen = build_sam(weights, 256), f"layers.{STAGES - 1}.blocks.0", []
    hook = sam.image_encoder.get_submodule(block).register_forward_hook(
        lambda _module, _inputs, stream: seen.append(stream)
    )
    pixels = torch.from_numpy(scene(SCENE, 256, 256)).float()
    with torch.no_grad():
        sam.encode(
            ((pixels - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)).permute(2, 0, 1)[None]
        )
    hook.remove()
    raised = copied(weights)
    raised[f"{ENCODER}.{block}.mlp.fc2.bias"][channel] += spreads * seen[0][:, channel].std()
    return raised
