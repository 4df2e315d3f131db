"""Range folding: the same function, in values that float16 arithmetic can hold."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from mobilesam_export.backends import reference
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.errors import CheckpointError
from mobilesam_export.graphs import Graph, as_session, ranges, split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam, build_sam, tiny_vit
from mobilesam_export.predictor import Predictor
from mobilesam_export.target import load_target
from mobilesam_export.verification import pessimistic
from mobilesam_export.verification.cases import ImageCase, reference_cases
from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.half import PessimisticFloat16
from tests.stress_weights import Weights, scale_heads, scale_neck, scale_streams

SIZE = 256
FORM = load_target("coreml").graph
CONTRACT = Contract(SIZE, 6, FORM)
TOLERANCE = load_target("coreml").recipes["float16"].tolerance
NORMS = [
    *(name for name, module in Sam().named_modules() if isinstance(module, ranges.Norm)),
]
# Far beyond what any trained network has, and not powers of two.
STRESS: dict[str, Callable[[Weights], Weights]] = {
    "neck": partial(scale_neck, scale=200),
    "stream": partial(scale_streams, scale=50),
    "neck and stream": lambda weights: scale_neck(scale_streams(weights, 7), 30),
    "heads": partial(scale_heads, sigma=1.0, seed=3),
}


@cache
def demo() -> Weights:
    return dict(load_checkpoint("demo").state_dict)


def folded(weights: Weights) -> tuple[Sam, Sam, tuple[ImageCase, ...]]:
    """The model, the same folded, and what the model answers."""
    sam = build_sam(weights, SIZE)
    with ranges.observed(sam) as peaks:
        expected = reference_cases(reference.load(sam, CONTRACT))
    return sam, ranges.fold_ranges(sam, ranges.choose_exponents(peaks)), expected


def float16(sam: Sam, expected: tuple[ImageCase, ...]) -> Float16:
    return float16_of(split_graphs(sam, CONTRACT), expected)


def float16_of(graphs: tuple[Graph, Graph], expected: tuple[ImageCase, ...]) -> Float16:
    halves = {graph.spec.name: PessimisticFloat16() for graph in graphs}
    encoder, decoder = (
        pessimistic.open_graph(graph, halves[graph.spec.name], ()) for graph in graphs
    )
    return pessimistic.measure(Predictor(encoder, decoder, CONTRACT), halves, expected)


def few(expected: tuple[ImageCase, ...]) -> tuple[ImageCase, ...]:
    """Both images with one prompt each, which is less work."""
    return tuple(replace(case, prompts=case.prompts[:1]) for case in expected)


@cache
def demo_float16() -> Float16:
    _, sam, expected = folded(demo())
    return float16(sam, expected)


def test_folding_keeps_the_function() -> None:
    sam, same, expected = folded(demo())
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(same.encode(image), sam.encode(image), rtol=0, atol=1e-5)
    embeddings = torch.from_numpy(expected[0].embeddings)
    clicks = {
        "point_coords": torch.tensor([[[70.0, 90.0]]]),
        "point_labels": torch.ones(1, 1),
        "mask_input": torch.full((1, 1, SIZE // 4, SIZE // 4), 3.0),
    }
    for before, after in zip(
        sam.decode(embeddings, **clicks), same.decode(embeddings, **clicks), strict=True
    ):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_what_float16_makes_of_the_demo_weights() -> None:
    found = demo_float16()
    assert found.embedding_psnr_db > 73  # 71.8 with the chunks added to the stream one by one
    assert found.mask_iou > 0.98
    assert found.headroom > 8
    assert f"headroom {found.headroom:.3g} at {found.tensor}" in found.summary()


def test_without_folding_the_demo_weights_overflow() -> None:
    sam, _, expected = folded(demo())
    found = float16(sam, few(expected))
    assert found.headroom < 1
    assert found.embedding_psnr_db < 30
    assert "sum of" in found.tensor


@pytest.mark.parametrize("kind", STRESS)
def test_stress_weights_are_as_good_as_the_demo_weights(kind: str) -> None:
    _, sam, expected = folded(STRESS[kind](demo()))
    found, best = float16(sam, few(expected)), demo_float16()
    assert abs(found.embedding_psnr_db - best.embedding_psnr_db) < 2
    assert found.headroom > 8


def test_heads_are_equalised_whatever_their_channels_were_scaled_by() -> None:
    _, sam, _ = folded(scale_heads(demo(), sigma=1.0, seed=5))
    for _, module in sam.named_modules():
        if type(module).__name__ == "Attention" and hasattr(module, "qkv"):
            heads, width = module.heads, module.proj.in_features
            weight = (module.qkv.weight * module.norm.weight).view(heads, 3, -1, width)
            q, k, _ = (part.reshape(width, width).abs().amax(1) for part in weight.unbind(1))
            torch.testing.assert_close(q, k, rtol=1e-4, atol=0)


@cache
def equalised(seed: int | None) -> Weights:
    """The demo weights, with heads out of balance by this seed, as they go into recipes."""
    weights = demo() if seed is None else scale_heads(demo(), sigma=1.0, seed=seed)
    return ranges.fold_ranges(
        build_sam(weights, SIZE), dict.fromkeys(ranges.places(NORMS), 0)
    ).state_dict()


@pytest.mark.parametrize("seed", [0, 1])
def test_what_recipes_get_is_the_same_whatever_heads_were_scaled_by(seed: int) -> None:
    """So that every recipe of every target gives files that are as good as the demo weights'."""
    found = equalised(seed)
    for name, value in equalised(None).items():
        largest = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6 * largest, msg=name)


def planted(sam: Sam) -> Sam:
    """What a LayerNorm gets is 300 times as large again, as before folding or worse."""
    layer, norm = sam.image_encoder.neck[2], sam.image_encoder.neck[3]
    assert isinstance(norm, tiny_vit.LayerNorm2d)
    layer.get_parameter("weight").data *= 300
    norm.eps *= 300.0**2
    return sam


def test_a_layer_norm_that_overflows_is_named() -> None:
    _, sam, expected = folded(demo())
    found = float16(planted(sam), few(expected))
    assert found.tensor == "encoder: neck.3 mul"  # already the squares, before their sum
    failures = found.broken_limits(TOLERANCE)
    assert any("neck.3" in failure and "65,504" in failure for failure in failures)


def test_values_that_no_power_of_two_brings_in_range_are_named() -> None:
    peaks = dict.fromkeys(NORMS, 1.0)
    for peak in (float("inf"), 1e60):
        with pytest.raises(CheckpointError, match=r"neck\.1"):
            ranges.choose_exponents(peaks | {"image_encoder.neck.1": peak})


def test_an_input_of_zeros_is_left_as_it_is() -> None:
    peaks = dict.fromkeys(NORMS, 0.0)
    assert set(ranges.choose_exponents(peaks).values()) == {0}


class Drowned(torch.nn.Module):
    """The same values, but too small for float16 in between."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = x * 2.0**-20 * 2.0**-20
        return small * 2.0**20 * 2.0**20


def test_an_embedding_that_ignores_the_image_only_in_float16_is_named() -> None:
    _, sam, expected = folded(demo())
    encoder, decoder = split_graphs(sam, CONTRACT)
    encoder.module.stage3 = torch.nn.Sequential(encoder.module.get_submodule("stage3"), Drowned())
    image = expected[0].image
    found = Predictor(as_session(encoder), as_session(decoder), CONTRACT).embed(image)
    assert psnr_db(found.embeddings, expected[0].embeddings) > 100
    failures = float16_of((encoder, decoder), few(expected)).broken_limits(TOLERANCE)
    assert any("the encoder ignores the image" in failure for failure in failures)
    assert any("stage3.1" in failure for failure in failures)
