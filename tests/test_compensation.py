"""Weights in int8 that are chosen by what their products lose, for every backend."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilesam_export import prompts
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.backends.compensation import (
    Products,
    choices,
    chosen_weights,
    compensated,
)
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.contract import Array, Contract
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import Recipe, Target, load_target

METADATA = dict.fromkeys(("description", "author", "license", "version"), "")
ROUNDED = {"onnx": "w8", "coreml": "w8", "tflite": "w8a8"}


def contract_of(target: Target) -> Contract:
    return Contract(256, 6, target.graph)


def encoder_and_conversion(sam: Sam, target: Target, recipe: Recipe) -> tuple[Graph, Conversion]:
    """The encoder in a target's form, calibrated on two scenes."""
    contract, backend = contract_of(target), get_backend(target.backend)
    encoder, _ = split_graphs(sam, contract)
    samples = [prompts.encoder_inputs(scene(seed, 192, 256), contract) for seed in range(2)]
    settings = backend.parse_recipe(recipe, target.graph, target.options(recipe))
    return encoder, Conversion(settings, recipe, contract, METADATA, samples)


def correlated(rows: int, inputs: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    few = torch.randn(rows, inputs // 4 + 1, generator=random)
    mixed = few @ torch.randn(inputs // 4 + 1, inputs, generator=random)
    return (mixed + torch.randn(rows, inputs, generator=random) / 4).double()


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    bits=st.sampled_from([4, 7, 8]),
)
def test_rounding_what_is_chosen_to_the_nearest_leaves_it(
    seed: int, shape: tuple[int, int], bits: int
) -> None:
    """So a converter, which finds the scale by the largest number, writes it as it is."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x = correlated(30, shape[1], seed)
    made = compensated(weight, x.T @ x / len(x), bits)
    largest = 2 ** (bits - 1) - 1
    assert torch.allclose(made.abs().amax(1), weight.abs().amax(1), rtol=1e-6)
    whole = made * largest / made.abs().amax(1, keepdim=True)
    assert (whole - whole.round()).abs().max() < 1e-3


def test_products_lose_half_of_what_the_nearest_numbers_cost() -> None:
    x, weight = correlated(500, 64, 0), torch.randn(24, 64)
    scale = weight.abs().amax(1, keepdim=True) / 127
    nearest = (weight / scale).round() * scale
    made = compensated(weight, x.T @ x / len(x))
    losses = [float(((w - weight).double() @ x.T).square().mean()) for w in (made, nearest)]
    assert losses[0] < losses[1] / 2


def test_an_output_without_weights_stays_without() -> None:
    weight = torch.zeros(2, 3)
    weight[0] = torch.tensor([1.0, -2.0, 0.5])
    assert torch.equal(compensated(weight, torch.eye(3, dtype=torch.float64))[1], torch.zeros(3))


def test_a_kernel_s_moments_are_those_of_the_patches_that_it_covers() -> None:
    """Also where a form pads by itself, as tiles do."""
    layer = nn.Conv2d(2, 3, 3, stride=2)
    x = torch.randn(1, 2, 9, 8)
    with torch.no_grad(), Products({"a.weight": layer}) as found:
        F.conv2d(F.pad(x, (1, 1, 1, 1)), layer.weight, layer.bias, layer.stride)
    columns = F.unfold(x, 3, padding=1, stride=2)[0].T
    assert found.counts["a.weight"] == len(columns)
    assert torch.allclose(found.sums["a.weight"], (columns.T @ columns).double(), atol=1e-4)


@pytest.mark.parametrize("target_name", [*ROUNDED])
def test_layers_are_found_in_every_form(sam: Sam, target_name: str) -> None:
    """Tiled, channel-last, channel-first: all but depthwise ones."""
    target = load_target(target_name)
    encoder, conversion = encoder_and_conversion(sam, target, target.recipes[ROUNDED[target_name]])
    layers = {f"{name}.weight": layer for name, layer in encoder.module.named_modules()}
    wanted = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    }
    found = chosen_weights(encoder, conversion, [*layers])
    assert set(found) == wanted
    assert len(wanted) > 20
    assert set(choices(conversion.kept, "encoder")) == wanted
    assert all(found[name].shape == tuple(layers[name].weight.shape) for name in wanted)


def test_none_are_chosen_for_a_recipe_that_does_not_ask(sam: Sam) -> None:
    target = load_target("onnx")
    recipe = replace(target.recipes["w8"], calibrate_weights=False)
    encoder, conversion = encoder_and_conversion(sam, target, recipe)
    assert chosen_weights(encoder, conversion, ["stage2.blocks.0.fc1.weight"]) == {}


def embedding(sam: Sam, target: Target, recipe: Recipe, path: Path) -> Array:
    """What a file of the recipe makes of a scene that it was not calibrated on."""
    encoder, conversion = encoder_and_conversion(sam, target, recipe)
    backend = get_backend(target.backend)
    backend.convert(encoder, conversion, path)
    run = backend.second_opinion(path) or backend.load(path, encoder.spec)
    inputs = prompts.encoder_inputs(scene(9, 256, 200), contract_of(target))
    return run.run(inputs)["image_embeddings"]


@pytest.mark.parametrize(("target_name", "gain_db"), [("onnx", 3), ("coreml", 1.5)])
def test_files_are_nearer_to_the_model(
    sam: Sam, target_name: str, gain_db: float, tmp_path: Path
) -> None:
    """In coreml's, some of the error is float16's."""
    target = load_target(target_name)
    recipe, contract = target.recipes[ROUNDED[target_name]], contract_of(target)
    inputs = prompts.encoder_inputs(scene(9, 256, 200), contract)
    expected = reference.load(sam, contract).encoder.run(inputs)["image_embeddings"]
    suffix = get_backend(target.backend).suffix
    found = [
        psnr_db(
            embedding(sam, target, replace(recipe, calibrate_weights=chosen), tmp_path / name),
            expected,
        )
        for chosen, name in ((False, f"nearest{suffix}"), (True, f"chosen{suffix}"))
    ]
    assert found[1] > found[0] + gain_db


def test_a_tflite_file_has_the_numbers_that_are_chosen(sam: Sam, tmp_path: Path) -> None:
    target, name = load_target("tflite"), "stage2.blocks.0.fc1.weight"
    encoder, conversion = encoder_and_conversion(sam, target, target.recipes["w8a8"])
    path = tmp_path / "encoder.tflite"
    get_backend("tflite").convert(encoder, conversion, path)
    chosen = choices(conversion.kept, "encoder")[name]
    whole = np.round(chosen * 127 / np.abs(chosen).max(axis=1, keepdims=True)).astype(np.int8)
    assert whole.tobytes() in path.read_bytes()
