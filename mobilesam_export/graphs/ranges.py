"""Range folding: the same function in numbers that float16 arithmetic can hold.

A chip that takes LayerNorm apart in float16 squares what it gets and adds the squares up. Trained
weights bring sums of 300,000 and more there, and float16 ends at 65,504: the embedding collapses
without an error. So every LayerNorm's input is multiplied by a power of two, in the weights of the
linear layers before it; LayerNorm gives the same for it, once its epsilon is multiplied by the
square. Residual streams are scaled where they begin and scaled back where they end:

    stage 2 to 4    from the last convolution of the patch merging before, through `proj`, `fc2` and
                    `local_conv`, to the first convolution of the next patch merging (or the neck)
    neck            each convolution before a LayerNorm
    decoder         the MLPs between norm2 and norm3, which are the only large values there, the
                    first self-attention, and the convolutions before a LayerNorm

Multiplying by a power of two is exact in float32. It costs nothing at run time.

Channels of q and k, and of v and proj, are equalised: trained weights bring factors of a hundred
between channels of one layer, which quantization with one scale for several channels cannot bear.
These factors are exact in real arithmetic only: a power of two would leave up to a factor of two
between channels that a quantizer puts on one scale.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mobilesam_export.errors import CheckpointError
from mobilesam_export.model import Sam, mask_decoder, tiny_vit
from mobilesam_export.model.architecture import STAGES

# A LayerNorm's sum of squares is folded to the nearest power of four of this: a factor of 32 at
# least below float16's end, and far above its subnormal numbers.
TARGET_SUM = 2.0**10
# Powers of two beyond these would leave float32's own range in an epsilon, which is squared.
MAX_EXPONENT = 40
# Equalisation goes no further, so that no channel that hardly matters is blown up.
MAX_RATIO = 2.0**8

ENCODER, DECODER = "image_encoder", "mask_decoder"
# LayerNorms of a transformer stage, which take its residual stream.
STREAM_NORM = re.compile(rf"({ENCODER}\.layers\.[1-3])\.blocks\.\d+\.(?:attn|mlp)\.norm")
# LayerNorms whose input nothing else takes.
LONE_NORMS = (
    f"{ENCODER}.neck.1",
    f"{ENCODER}.neck.3",
    f"{DECODER}.transformer.layers.0.norm1",
    f"{DECODER}.transformer.layers.0.norm3",
    f"{DECODER}.transformer.layers.1.norm3",
    f"{DECODER}.output_upscaling.1",
    "prompt_encoder.mask_downscaling.1",
    "prompt_encoder.mask_downscaling.4",
)

Norm = nn.LayerNorm | tiny_vit.LayerNorm2d

# By the name of a stream or LayerNorm: its values times 2 ** exponent.
Exponents = Mapping[str, int]


def choose_exponents(peaks: Mapping[str, float]) -> dict[str, int]:
    """The power of two for each stream and LayerNorm that can be scaled.

    Args:
        peaks: from `observed`, by the name of the LayerNorm.

    Raises:
        CheckpointError: no power of two brings a LayerNorm's input in range.
    """
    return {
        name: _exponent(name, max(peaks[norm] for norm in norms))
        for name, norms in places(peaks).items()
    }


def fold_ranges(sam: Sam, exponents: Exponents, *, on_grid: bool = False) -> Sam:
    """A copy of the model that computes the same, with the inputs of LayerNorms scaled.

    Args:
        sam: the model; it stays as it is.
        exponents: from `choose_exponents`.
        on_grid: whether the encoder's weights lie on a recipe's grid (`distill --student
            TARGET:RECIPE`), where powers of two leave them and equalising would not.
    """
    folded = copy.deepcopy(sam)
    scales = {name: 2.0**exponent for name, exponent in exponents.items()}
    _fold_encoder(folded.image_encoder, scales)
    _fold_decoder(folded, scales)
    _equalise_attention(folded, encoder=not on_grid)
    return folded


def equalised(sam: Sam) -> Sam:
    """A copy that computes the same, with channels of attention that are equally large.

    Args:
        sam: the model; it stays as it is.
    """
    balanced = copy.deepcopy(sam)
    _equalise_attention(balanced)
    return balanced


def _equalise_attention(sam: Sam, *, encoder: bool = True) -> None:
    """In place; `encoder`: not only the decoder's."""
    for module in sam.modules():
        if isinstance(module, tiny_vit.Attention) and encoder:
            _equalise_windows(module)
        elif isinstance(module, mask_decoder.Attention):
            _equalise(module.q_proj, module.k_proj, module.v_proj, module.out_proj)


def places(norms: Iterable[str]) -> dict[str, list[str]]:
    """What is scaled as one -> the LayerNorms that take it, by their names in the model.

    Args:
        norms: names of the model's LayerNorms; those of the decoder's streams are left out.
    """
    places: dict[str, list[str]] = {}
    for name in norms:
        if match := STREAM_NORM.fullmatch(name):
            places.setdefault(match[1], []).append(name)
        elif name in LONE_NORMS:
            places[name] = [name]
    return places


@contextmanager
def observed(sam: Sam) -> Iterator[dict[str, float]]:
    """While it is open, note what the model's LayerNorms get.

    Yields:
        By the name of the LayerNorm, the largest sum of squares of a centered input so far.
    """
    peaks: dict[str, float] = {}
    hooks = [
        module.register_forward_pre_hook(_note(peaks, name, axis))
        for name, module in sam.named_modules()
        for kind, axis in ((nn.LayerNorm, -1), (tiny_vit.LayerNorm2d, 1))
        if isinstance(module, kind)
    ]
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


def _note(peaks: dict[str, float], name: str, axis: int) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        centered = (x - x.mean(axis, keepdim=True)).double()
        peak = float(centered.square().sum(axis).max())
        peaks[name] = max(peaks.get(name, 0.0), peak) if math.isfinite(peak) else math.inf

    return hook


def _exponent(name: str, peak: float) -> int:
    """The power of two that brings a sum of squares nearest to the target."""
    if peak == 0:
        return 0
    exponent = (
        round(0.5 * math.log2(TARGET_SUM / peak)) if math.isfinite(peak) else MAX_EXPONENT + 1
    )
    if abs(exponent) > MAX_EXPONENT:
        raise CheckpointError(
            f"the values that reach LayerNorm in {name} have a sum of squares of {peak:.3g}, which "
            "no power of two brings into float16's range; are the weights those of a trained model?"
        )
    return exponent


def _fold_encoder(encoder: tiny_vit.TinyViT, scales: Mapping[str, float]) -> None:
    for index in range(1, STAGES):
        before, stage = encoder.layers[index - 1], encoder.layers[index]
        assert isinstance(before, tiny_vit.Stage)
        assert isinstance(stage, tiny_vit.Stage)
        assert before.downsample is not None
        scale = scales[f"{ENCODER}.layers.{index}"]
        _multiply(scale, before.downsample.conv3.bn.weight, before.downsample.conv3.bn.bias)
        for block in stage.blocks:
            assert isinstance(block, tiny_vit.TinyViTBlock)
            _scale_block(block, scale)
        after = encoder.neck[0] if stage.downsample is None else stage.downsample.conv1.c
        _multiply(1 / scale, after.get_parameter("weight"))
    for conv, norm in ((0, 1), (2, 3)):
        _scale_before(encoder.neck[conv], encoder.neck[norm], scales[f"{ENCODER}.neck.{norm}"])


def _scale_block(block: tiny_vit.TinyViTBlock, scale: float) -> None:
    """Let a block take and give a stream that is `scale` times as large."""
    for linear in (block.attn.proj, block.mlp.fc2):
        _multiply(scale, linear.weight, linear.bias)
    convolution = block.local_conv.bn
    _multiply(scale, convolution.bias, convolution.running_mean, *block.beyond.buffers())
    for norm in (block.attn.norm, block.mlp.norm):
        _scale_input(norm, scale)


def _fold_decoder(sam: Sam, scales: Mapping[str, float]) -> None:
    decoder = sam.mask_decoder
    for index, block in enumerate(decoder.transformer.layers):
        assert isinstance(block, mask_decoder.TwoWayAttentionBlock)
        name = f"{DECODER}.transformer.layers.{index}"
        if block.first:  # the other one has a residual stream before norm1
            _scale_before(block.self_attn.out_proj, block.norm1, scales[f"{name}.norm1"])
        scale = scales[f"{name}.norm3"]
        _multiply(scale, block.norm2.weight, block.norm2.bias)
        _multiply(1 / scale, block.mlp.lin1.weight)
        _scale_before(block.mlp.lin2, block.norm3, scale)
    layers = decoder.output_upscaling
    _scale_before(layers[0], layers[1], scales[f"{DECODER}.output_upscaling.1"])
    layers = sam.prompt_encoder.mask_downscaling
    for place in (0, 3):
        # Files that take no mask prompt have shown no values of its layers.
        scale = scales.get(f"prompt_encoder.mask_downscaling.{place + 1}", 1.0)
        _scale_before(layers[place], layers[place + 1], scale)


def _scale_before(layer: nn.Module, norm: nn.Module, scale: float) -> None:
    """Scale what a linear layer gives to a LayerNorm that takes nothing else."""
    assert isinstance(norm, nn.LayerNorm | tiny_vit.LayerNorm2d)
    _multiply(scale, *layer.parameters())
    _scale_input(norm, scale)


def _scale_input(norm: Norm, scale: float) -> None:
    norm.eps *= scale**2


def _multiply(scale: float, *tensors: Tensor | None) -> None:
    for tensor in tensors:
        assert tensor is not None
        tensor.data *= scale


def _equalise_windows(attention: tiny_vit.Attention) -> None:
    """Equalise window attention, whose rows of qkv are ordered by head, then q, k, v."""
    heads, width = attention.heads, attention.proj.in_features
    weight = (attention.qkv.weight * attention.norm.weight).view(heads, 3, width // heads, width)
    q, k, v = (part.reshape(width, width) for part in weight.unbind(1))
    keys, values = _ratios(q, k), _ratios(v, attention.proj.weight.T)
    factors = torch.stack([keys, 1 / keys, values]).view(3, heads, -1).transpose(0, 1).flatten()
    attention.qkv.weight.data *= factors[:, None]
    attention.qkv.bias.data *= factors
    attention.proj.weight.data /= values


def _equalise(q: nn.Linear, k: nn.Linear, v: nn.Linear, out: nn.Linear) -> None:
    keys, values = _ratios(q.weight, k.weight), _ratios(v.weight, out.weight.T)
    for layer, factors in ((q, keys), (k, 1 / keys), (v, values)):
        layer.weight.data *= factors[:, None]
        layer.bias.data *= factors
    out.weight.data /= values


def _ratios(first: Tensor, second: Tensor) -> Tensor:
    """Factors for the rows of `first` that make them as large as those of `second`.

    Args:
        first: (C, in), its rows to be multiplied by the result.
        second: (C, in'), its rows to be divided by the result.

    Returns:
        (C) float32: where a row is all zeros, 1.
    """
    sizes = [rows.abs().amax(1).double() for rows in (first, second)]
    ratio = (sizes[1] / sizes[0]).sqrt().clamp(1 / MAX_RATIO, MAX_RATIO)
    usable = (sizes[0] > 0) & (sizes[1] > 0)
    return torch.where(usable, ratio, 1.0).float()
