"""What calibration decides in Core ML files: the ranges of int8 activations, and palettes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.backends.coreml.activations import Observed, int8_inputs, quantized
from mobilesam_export.backends.coreml.compensation import (
    Grid,
    Inputs,
    compensated,
    is_dense,
)
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.mil import Program, read_program
from mobilesam_export.model import Sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import Recipe, load_target
from tests.coreml_packages import opened

TARGET = load_target("coreml")
CONTRACT = Contract(256, 6, TARGET.graph)
W8A8 = TARGET.recipes["w8a8"]
ALL_INT8 = replace(W8A8, weight_threshold=1)  # narrow layers too


def convert(sam: Sam, recipe: Recipe, path: Path, samples: int = 1) -> Path:
    """The encoder, calibrated on scenes."""
    encoder, _ = split_graphs(sam, CONTRACT)
    images = [scene(seed, 192, 256) for seed in range(samples)]
    inputs = [prompts.encoder_inputs(image, CONTRACT) for image in images]
    metadata = dict.fromkeys(("description", "author", "license", "version"), "")
    settings = coreml.parse_recipe(recipe, TARGET.graph, {**TARGET.convert, **recipe.convert})
    path = path / "encoder.mlpackage"
    coreml.convert(encoder, Conversion(settings, recipe, CONTRACT, metadata, inputs), path)
    return path


@pytest.fixture(scope="module")
def int8_encoder(sam: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(sam, ALL_INT8, tmp_path_factory.mktemp("int8"))


def producers(program: Program) -> dict[str, Any]:
    return {value.name: op for op in program.operations for value in op.outputs}


def test_dense_convolutions_take_int8_but_the_first_and_those_between_stages(
    int8_encoder: Path,
) -> None:
    """Stem 2, first stage 4, between stages 6, neck 2, and 4 in each of the three other blocks."""
    program = read_program(int8_encoder)
    made_by = producers(program)
    dense = [op for op in program.operations if is_dense(op, program)]
    kinds = {
        op.inputs["weight"][0]: made_by[op.inputs["x"][0]].kind
        for op in dense
        if op.inputs["x"][0] in made_by
    }
    float16 = [name for name, kind in kinds.items() if kind != "dequantize"]
    assert len(kinds) == len(dense) == 26
    assert len(float16) == 1 + 6
    assert all(name.startswith(("p_stem_conv1_", "p_down")) for name in float16)


def test_int8_weights_meet_int8_inputs(int8_encoder: Path) -> None:
    program = read_program(int8_encoder)
    made_by = producers(program)
    for op in program.operations:
        x = made_by.get(op.inputs["x"][0]) if op.kind == "conv" else None
        if x is not None and x.kind == "dequantize":
            assert made_by[op.inputs["weight"][0]].kind == "constexpr_affine_dequantize"


def test_convolutions_of_one_input_share_its_int8(int8_encoder: Path) -> None:
    program = read_program(int8_encoder)
    quantized_values = [op.inputs["input"][0] for op in program.operations if op.kind == "quantize"]
    assert len(quantized_values) == len(set(quantized_values)) == 18


def test_int8_activations_compute_nearly_the_same(sam: Sam, int8_encoder: Path) -> None:
    inputs = prompts.encoder_inputs(scene(9, 256, 200), CONTRACT)
    found = coreml.second_opinion(int8_encoder).run(inputs)["image_embeddings"]
    expected = reference.load(sam, CONTRACT).encoder.run(inputs)["image_embeddings"]
    assert psnr_db(found, expected) > 25  # random weights; 47 dB on trained ones


@pytest.mark.parametrize(
    ("quantize", "message"),
    [
        ({"float_input": {}}, "float_inputs.encoder"),
        ({"float_inputs": {"encodre": []}}, "encodre"),
        ({"float_inputs": {"encoder": "*"}}, "lists of patterns"),
    ],
)
def test_a_table_with_a_mistake_is_refused(quantize: dict[str, Any], message: str) -> None:
    recipe = replace(W8A8, quantize=quantize)
    with pytest.raises(TargetError, match=message):
        coreml.parse_recipe(recipe, TARGET.graph, {**TARGET.convert, **recipe.convert})


@pytest.mark.parametrize(
    ("floats", "samples", "message"),
    [([], 0, "no samples"), (["stm.*"], 1, r"'stm\.\*' matches no weight")],
)
def test_what_cannot_be_calibrated_so(
    sam: Sam, coreml_bundle: Path, floats: list[str], samples: int, message: str
) -> None:
    encoder, _ = split_graphs(sam, CONTRACT)
    model = opened(coreml_bundle / "encoder.mlpackage")
    inputs = [prompts.encoder_inputs(scene(0, 192, 256), CONTRACT)] * samples
    with pytest.raises(TargetError, match=message) as caught:
        int8_inputs(model, floats, encoder, inputs)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50),
    st.floats(0.015625, 8, width=32),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_int8_is_the_nearest_step_unless_clipping_is_better(
    numbers: list[float], factor: float
) -> None:
    values = torch.tensor(numbers) * factor
    seen = Observed()
    seen.add(values)
    affine = seen.best()
    assert quantized(torch.zeros(1), affine) == 0
    whole = (max(0.0, float(values.max())) - min(0.0, float(values.min()))) / 255
    error = (quantized(values, affine) - values).square().mean().sqrt()
    assert error <= max(whole, 1e-3)


def correlated(channels: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=random) * torch.rand(channels, generator=random)
    pixels = torch.randn(channels, 24 * 24, generator=random)
    return (mix @ pixels).reshape(1, channels, 24, 24)


def relative_error(
    weight: np.ndarray[Any, Any], changed: np.ndarray[Any, Any], inputs: Inputs
) -> float:
    """Mean square of the change of the output, relative to the output's, by the moments."""
    moments = inputs.moments()
    before = torch.from_numpy(np.asarray(weight, np.float64)).flatten(1)
    change = torch.from_numpy(np.asarray(changed, np.float64)).flatten(1) - before
    return float((change @ moments * change).sum() / (before @ moments * before).sum())


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_moments_predict_the_change_of_the_output(kernel: int, stride: int) -> None:
    random = torch.Generator().manual_seed(1)
    x = correlated(8)
    weight = torch.randn(16, 8, kernel, kernel, generator=random)
    other = weight + 0.1 * torch.randn(weight.shape, generator=random)
    outputs = [F.conv2d(x, w, stride=stride, padding=kernel // 2) for w in (weight, other)]
    actual = float((outputs[1] - outputs[0]).square().sum() / outputs[0].square().sum())
    inputs = Inputs((kernel, kernel), stride)
    inputs.add(x)
    assert relative_error(weight.numpy(), other.numpy(), inputs) == pytest.approx(actual, rel=0.05)


@pytest.mark.parametrize(("group", "groups"), [(0, 1), (8, 4)])
def test_compensated_weights_fit_their_palettes_and_beat_the_nearest_entries(
    group: int, groups: int
) -> None:
    inputs = Inputs((1, 1), 1)
    inputs.add(correlated(24))
    weight = np.random.default_rng(0).normal(size=(32, 24, 1, 1)).astype(np.float32)
    made = compensated(weight, Grid(16, group), inputs)
    palettes = [np.unique(part) for part in made.reshape(groups, -1)]
    assert max(len(palette) for palette in palettes) <= 16
    nearest = np.stack(
        [
            palette[np.abs(part.reshape(-1, 1) - palette).argmin(1)]
            for part, palette in zip(weight.reshape(groups, -1), palettes, strict=True)
        ]
    ).reshape(weight.shape)
    error = relative_error(weight, made, inputs)
    assert error < 0.6 * relative_error(weight, nearest, inputs)


def test_calibrated_palettes_are_nearer_to_the_model(
    sam: Sam, compressed: Callable[[str], Path], tmp_path: Path
) -> None:
    """Those of the exported bundle, calibrated on its usual scenes, than those without."""
    usual = TARGET.recipes["w4-palettized"]
    inputs = prompts.encoder_inputs(scene(9, 256, 200), CONTRACT)
    expected = reference.load(sam, CONTRACT).encoder.run(inputs)["image_embeddings"]
    nearest = convert(sam, replace(usual, calibrate_weights=False), tmp_path, samples=0)
    chosen = compressed("w4-palettized") / "encoder.mlpackage"
    found = [
        psnr_db(coreml.second_opinion(path).run(inputs)["image_embeddings"], expected)
        for path in (nearest, chosen)
    ]
    assert found[1] > found[0] + 3
