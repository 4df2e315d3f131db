"""What is known of a file's numbers, and rounding by it in PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mobilesam_export.backends import get_backend, reference
from mobilesam_export.backends.compensation import choices
from mobilesam_export.backends.simulation import Inputs
from mobilesam_export.contract import Array, Contract
from mobilesam_export.fitting.known import known_numbers
from mobilesam_export.fitting.ranking import compressed_weights, simulated
from mobilesam_export.graphs import split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.rounding import NOTHING_KNOWN, Known, rounded, tensor_of
from mobilesam_export.target import load_target
from tests.conftest import tiny_state_dict
from tests.stress_weights import scale_mlp
from tests.test_compensation import encoder_and_conversion

W8A8 = load_target("onnx").recipes["w8a8"]
NAME = "0.weight"
INTO = torch.tensor([[-8.0, 1.0, 0.5, 8.0], [0.011, 0.021, 0.031, 0.041]])


def identity() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer)


@torch.no_grad()
def given(known: Known, activations: str = "int8") -> Tensor:
    """What the identity makes of INTO with rounded activations."""
    module = identity()
    with rounded(module, "0", [NAME], replace(W8A8, activations=activations), known):
        found: Tensor = module(INTO)
    return found


def test_what_a_layer_takes_is_cut_at_a_range_that_is_fixed() -> None:
    found = given(Known(inputs={NAME: Inputs()}, ranges={NAME: (-2.0, 2.0)}))
    assert found.abs().max() == pytest.approx(2, rel=0.02)
    assert found[0, 1] == pytest.approx(1, abs=0.05)


def test_what_a_layer_gives_is_cut_at_a_range_that_is_fixed() -> None:
    found = given(Known(inputs={NAME: Inputs()}, results={NAME: (-3.0, 3.0)}))
    assert found.abs().max() == pytest.approx(3, rel=0.02)


def test_a_map_is_rounded_in_its_range_where_nothing_is_known() -> None:
    found = given(NOTHING_KNOWN)
    assert found[0, 3] == pytest.approx(8, rel=0.01)
    assert len(set(found[1].tolist())) <= 2  # steps of 0.06


def test_rows_may_have_a_range_each() -> None:
    found = given(Known(inputs={NAME: Inputs(rows=True)}), "dynamic-int8")
    assert torch.allclose(found, INTO, rtol=0.03)


def test_rows_of_a_convolution_are_the_channels_of_a_place() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False))
    nn.init.dirac_(tensor_of(module, NAME))
    known = Known(inputs={NAME: Inputs(rows=True)})
    places = INTO.T[None, :, :, None]
    recipe = replace(W8A8, activations="dynamic-int8")
    with torch.no_grad(), rounded(module, "0", [NAME], recipe, known):
        found = module(places)
    assert torch.allclose(found, places, rtol=0.03)


def test_a_layer_that_computes_in_float32_takes_what_it_is_given() -> None:
    assert torch.allclose(given(Known(inputs={})), INTO, rtol=0.01)  # weights are rounded


def test_weights_have_the_bits_that_products_use() -> None:
    module = identity()
    tensor_of(module, NAME).data.copy_(torch.linspace(-1, 1, 16).reshape(4, 4))
    with rounded(module, "0", [NAME], W8A8, Known(inputs={NAME: Inputs(weight_bits=3)})):
        whole = tensor_of(module, NAME) * 3 / tensor_of(module, NAME).abs().amax(1, keepdim=True)
    assert torch.allclose(whole, whole.round(), atol=1e-5)


@dataclass
class OneLayer:
    """A graph of one layer; its samples are maps."""

    module: nn.Module

    def module_inputs(self, sample: Mapping[str, Array]) -> tuple[Tensor, ...]:
        return (torch.from_numpy(sample["x"]),)


def test_ranges_are_those_of_all_samples() -> None:
    module = identity()
    tensor_of(module, NAME).data.mul_(2)
    samples = [{"x": (INTO * factor).numpy()} for factor in (1, -1.5, 0.5)]
    seen: list[Array] = []

    def fix(low: float, high: float, values: Array) -> tuple[float, float]:
        seen.append(values)
        return low, high

    inputs = {NAME: Inputs(fix, results=True)}
    known = known_numbers(OneLayer(module), inputs, {}, samples)  # type: ignore[arg-type]
    assert known.ranges == {NAME: (-12.0, 12.0)}
    assert known.results == {NAME: (-24.0, 24.0)}
    assert [values.size for values in seen] == [INTO.numel() * 3] * 2


def inputs_of(target_name: str, recipe_name: str, graph: int) -> Mapping[str, Inputs]:
    target = load_target(target_name)
    recipe, backend = target.recipes[recipe_name], get_backend(target.backend)
    parsed = backend.parse_recipe(recipe, target.graph, target.options(recipe))
    graphs = split_graphs(stressed(), Contract(256, 6, target.graph))
    found = backend.rounded_inputs(graphs[graph], recipe, parsed)
    assert found is not None
    return found


@pytest.mark.parametrize("recipe", ["w8-dynamic", "w8a8"])
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_layers_that_compute_in_whole_numbers_are_named(target: str, recipe: str) -> None:
    found = inputs_of(target, recipe, 0)
    assert "stage3.blocks.0.fc1.weight" in found
    assert not any(name.startswith(("stem", "stage1")) for name in found)
    assert not any(".local_conv" in name for name in found)
    assert inputs_of(target, recipe, 1) == {}
    static = recipe == "w8a8"
    assert all((item.fix is not None) == static for item in found.values())
    assert all(item.results == (static and target == "tflite") for item in found.values())
    assert all(item.rows == (not static and target == "tflite") for item in found.values())


def test_executorch_s_products_find_a_range_at_each_place() -> None:
    found = inputs_of("executorch", "w8-dynamic", 0)
    assert {"stage3.blocks.0.fc1.weight", "neck.2.weight"} <= set(found)
    assert all(item.rows and item.fix is None for item in found.values())
    assert inputs_of("executorch", "w8-dynamic", 1) == {}


def test_core_ml_s_convolutions_take_whole_numbers_only_where_a_recipe_says_so() -> None:
    assert inputs_of("coreml", "w8", 0) == {}
    assert "stage3.blocks.0.fc1" in " ".join(inputs_of("coreml", "w8a8", 0))


@cache
def stressed() -> Sam:
    """Weights that rounding damages: rows of fc1 and columns of fc2 have scales far apart."""
    return build_sam(scale_mlp(tiny_state_dict(), 1.0, 0), 256)


@pytest.mark.parametrize("target_name", ["onnx", "tflite"])
def test_a_simulation_loses_what_the_file_loses(target_name: str, tmp_path: Path) -> None:
    target = load_target(target_name)
    few_tiles = min(2, target.graph.row_tiles)  # convert faster
    target = replace(target, graph=replace(target.graph, row_tiles=few_tiles))
    recipe, backend = target.recipes["w8a8"], get_backend(target.backend)
    encoder, conversion = encoder_and_conversion(stressed(), target, recipe)
    samples, path = conversion.samples, tmp_path / f"encoder{backend.suffix}"
    backend.convert(encoder, conversion, path)
    model, file = reference.load(stressed(), conversion.contract), backend.load(path, encoder.spec)
    expected, found = (
        run.run(dict(samples[0]))["image_embeddings"] for run in (model.encoder, file)
    )
    inputs = backend.rounded_inputs(encoder, recipe, conversion.settings)
    known = known_numbers(encoder, inputs, choices(conversion.kept, "encoder"), samples)
    compressed = {
        "encoder": compressed_weights(
            encoder, recipe, lambda name: backend.compresses(recipe, encoder, name)
        )
    }
    with torch.no_grad(), simulated([encoder], recipe, compressed, (), "", {"encoder": known}):
        (ours,) = encoder.module(*encoder.module_inputs(samples[0]))
    assert psnr_db(ours.numpy(), expected) == pytest.approx(psnr_db(found, expected), abs=0.5)
