"""Recovery: what is simulated is what the file has, and training under it goes on as any other."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from mobilesam_export.backends import Conversion, get_backend
from mobilesam_export.backends.coreml.simulate import stored
from mobilesam_export.backends.simulation import Inputs
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.distillation.arithmetic import normalized
from mobilesam_export.distillation.layerwise import fit_layers, spaced
from mobilesam_export.distillation.origins import find_origins
from mobilesam_export.distillation.recovery import Damage, Recovery, parse_damage
from mobilesam_export.distillation.rounded_inputs import InputRounding, second_moment
from mobilesam_export.distillation.trainer import Plan, Trainer
from mobilesam_export.errors import TargetError, UsageError
from mobilesam_export.graphs import Graph, names, ranges, split_graphs
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from tests.distillation_parts import ONE, SIZE

PLAN = Plan(steps=8, learning_rate=3e-4, loss="mse")


@pytest.fixture(scope="module")
def tiny() -> Sam:
    return ranges.equalised(build_sam(load_checkpoint("seeded:tiny:1").state_dict, SIZE))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.from_numpy(np.stack([scene(seed, SIZE, SIZE) for seed in range(2)]))


def damage(student: str) -> Damage:
    found = parse_damage(student, SIZE)
    assert found is not None
    return found


def exported(sam: Sam, found: Damage) -> Graph:
    return split_graphs(sam, found.contract(SIZE))[0]


# What is simulated


class Layers(nn.Module):
    """An encoder of a matrix that four bits are for and a convolution that they are not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.fc = nn.Linear(3, 64), nn.Linear(64, 256)
        self.conv = nn.Conv2d(256, 256, 1)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.fc(self.first(image[:, ::16, ::16].float() / 255))
        found: Tensor = self.conv(tokens.permute(0, 3, 1, 2))
        return found


@torch.random.fork_rng(devices=[])
def converted(recipe: str, folder: Path) -> tuple[Graph, dict[str, Array]]:
    """The layers as an ONNX file: the graph, and the file's constants by name."""
    target, backend = load_target("onnx"), get_backend("onnx")
    chosen = replace(target.recipes[recipe], calibrate_weights=False)
    contract = Contract(SIZE, 6, target.graph)
    graph = Graph(contract.encoder, Layers().eval().requires_grad_(False))
    settings = backend.parse_recipe(chosen, target.graph, target.options(chosen))
    metadata = {"version": "0", "description": ""}
    backend.convert(graph, Conversion(settings, chosen, contract, metadata), folder / "e.onnx")
    constants = onnx.load(folder / "e.onnx").graph.initializer
    return graph, {item.name: numpy_helper.to_array(item) for item in constants}


def test_onnx_weights_are_simulated_as_the_file_has_them(tmp_path: Path) -> None:
    graph, file = converted("w4", tmp_path)
    found = damage("onnx:w4").simulation(graph)
    assert found is not None
    assert set(found.weights) == {"fc.weight", "conv.weight"}
    rounded = {
        name: rounding(graph.module.get_parameter(name).numpy())
        for name, rounding in found.weights.items()
    }
    packed, scales = file["fc.weight/int4"], file["fc.weight/scale"].reshape(256, 2, 1)
    levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(256, 2, 32).astype(np.float32)
    assert np.array_equal(rounded["fc.weight"], ((levels - 8) * scales).reshape(256, 64))
    whole = file["conv.weight/int8"].astype(np.float32)
    assert np.array_equal(rounded["conv.weight"], whole * file["conv.weight/scale"])


@pytest.mark.filterwarnings("ignore")  # what coremltools says when it is imported
def test_coreml_weights_are_simulated_as_coremltools_rounds_them() -> None:
    from coremltools.converters.mil.mil import types
    from coremltools.optimize import _utils as utils

    weight = np.random.default_rng(0).normal(0, 0.05, (8, 16, 3, 3)).astype(np.float32)
    whole, scale, _ = utils.quantize_weight_by_dtype(
        weight.astype(np.float16), (1, 2, 3), types.int8, "LINEAR_SYMMETRIC"
    )
    expected = whole.astype(np.float16) * scale.reshape(-1, 1, 1, 1)
    assert np.array_equal(stored(weight, axis=0), expected.astype(np.float32))


@pytest.mark.parametrize("target", ["onnx", "coreml", "tflite"])
def test_weights_of_every_layout_are_found_in_the_model(target: str, tiny: Sam) -> None:
    form = load_target(target).graph
    graph = split_graphs(tiny, Contract(SIZE, 6, form))[0]
    weights = names.weights(graph.module, 1000)
    parameters = dict(tiny.image_encoder.named_parameters())
    for name, origin in find_origins(tiny, form, weights).items():
        found = origin.read(parameters[origin.parameter])
        torch.testing.assert_close(found, weights[name], rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("student", ["onnx:w4", "coreml:w8"])
def test_rounded_weights_stay_where_they_are_when_they_are_exported(
    student: str, tiny: Sam
) -> None:
    found, sam = damage(student), copy.deepcopy(tiny)
    recovery = Recovery(found, sam, torch.device("cpu"))
    kept = {name: value.clone() for name, value in sam.state_dict().items()}
    with recovery.simulated(sam.image_encoder):
        graph = copy.deepcopy(exported(sam, found))
    simulation = found.simulation(graph)
    assert simulation is not None
    before = names.weights(exported(tiny, found).module)
    moved = 0.0
    for name, rounding in simulation.weights.items():
        weight = names.weights(graph.module)[name].numpy()
        np.testing.assert_allclose(rounding(weight), weight, rtol=1e-3, atol=1e-7)
        moved = max(moved, float(np.abs(weight - before[name].numpy()).max()))
    assert moved > 1e-4  # they had to be rounded
    assert all(torch.equal(kept[name], value) for name, value in sam.state_dict().items())


def test_layers_take_in_the_model_what_they_take_in_the_export_form(
    tiny: Sam, pixels: Tensor
) -> None:
    graph, layers = layers_of(tiny, damage("onnx:w8a8"), "inputs")
    whole = Inputs(lambda low, high, _: (low, high))
    rounding = InputRounding(dict.fromkeys(layers.values(), whole))
    rounding.observe(tiny.image_encoder, [normalized(pixels[:1])])
    for name, taken in inputs_of(graph, list(layers), pixels[:1]).items():
        ends = min(0.0, float(taken.min())), max(0.0, float(taken.max()))
        assert rounding.ranges[layers[name]] == pytest.approx(ends, rel=1e-4), name


def layers_of(sam: Sam, found: Damage, what: str) -> tuple[Graph, dict[str, str]]:
    """The export form; of the weights that a simulation names there, the model's layers."""
    graph = exported(sam, found)
    simulation = found.simulation(graph)
    assert simulation is not None
    wanted = getattr(simulation, what)
    origins = find_origins(sam, found.target.graph, wanted)
    return graph, {name: origins[name].parameter.removesuffix(".weight") for name in wanted}


def inputs_of(graph: Graph, weights: list[str], pixels: Tensor) -> dict[str, Tensor]:
    """What layers of the export form take, by the names of their weights."""
    seen: dict[str, Tensor] = {}

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, taken: seen.__setitem__(name, taken[0])

    modules = [(name, graph.module.get_submodule(name.removesuffix(".weight"))) for name in weights]
    handles = [layer.register_forward_pre_hook(noting(name)) for name, layer in modules]
    graph.module(pixels)
    for handle in handles:
        handle.remove()
    return seen


def test_rounding_keeps_zero_and_clips_what_is_beyond_a_fixed_range() -> None:
    layer = nn.Sequential(nn.Identity())
    rounding = InputRounding({"0": Inputs(lambda *_: (-1.0, 1.55))}, {"0": (-1.0, 1.55)})
    taken = torch.tensor([-3.0, 0.0, 0.004, 0.52, 9.0], requires_grad=True)
    with rounding.applied(layer):
        given = layer(taken)
    assert given.tolist() == pytest.approx([-1.0, 0.0, 0.0, 0.52, 1.55])
    given.sum().backward()
    assert taken.grad is not None
    assert taken.grad.tolist() == [0, 1, 1, 1, 0]


# The beginning


@torch.no_grad()
def test_a_run_begins_on_the_grid_and_nearer_than_the_nearest_numbers(
    tiny: Sam, pixels: Tensor
) -> None:
    images = [normalized(image[None]) for image in pixels]
    other = normalized(torch.from_numpy(scene(7, SIZE, SIZE))[None])
    expected, errors = tiny.image_encoder(other), []
    for begins in (False, True):
        sam = copy.deepcopy(tiny)
        recovery = Recovery(damage("onnx:w4"), sam, torch.device("cpu"))
        if begins:
            recovery.begin(sam.image_encoder, images)
        with recovery.simulated(sam.image_encoder):
            errors.append(float((sam.image_encoder(other) - expected).square().mean()))
    assert errors[1] < errors[0] / 2


@torch.no_grad()
def test_what_is_rounded_at_the_beginning_is_what_the_export_form_takes(
    tiny: Sam, pixels: Tensor
) -> None:
    graph, layers = layers_of(tiny, damage("onnx:w4"), "starts")
    taken = inputs_of(graph, list(layers), pixels[:1])
    seen: dict[str, Array] = {}
    image = [normalized(pixels[:1])]
    fit_layers(
        tiny.image_encoder,
        tiny.image_encoder,
        image,
        lambda name, moments: seen.update({name: second_moment(tiny.image_encoder, name, moments)}),
    )
    for name, layer in layers.items():
        rows = spaced(taken[name].flatten(0, -2)).double()
        moment = (rows.T @ rows / len(rows)).numpy()
        assert seen[layer] == pytest.approx(moment, rel=1e-3, abs=1e-3 * moment.max()), layer


# Training


@pytest.fixture
def trainers(tiny: Sam) -> Iterator[Trainer]:
    """Trainers of the same start under onnx w4."""

    def make() -> Iterator[Trainer]:
        while True:
            sam = copy.deepcopy(tiny)
            recovery = Recovery(damage("onnx:w4"), sam, torch.device("cpu"))
            yield Trainer(sam.image_encoder, PLAN, ONE, recovery)

    return make()


def test_training_lowers_the_loss_and_a_restored_run_has_the_same_losses(
    tiny: Sam, pixels: Tensor, trainers: Iterator[Trainer]
) -> None:
    pixels = pixels[:1]
    with torch.no_grad():
        expected = tiny.image_encoder(normalized(pixels)).half()
    whole = next(trainers)
    first = [whole.train_step(pixels, expected) for _ in range(5)]
    resumed = next(trainers)
    resumed.restore(copy.deepcopy(whole.state()))
    rest = [whole.train_step(pixels, expected) for _ in range(3)]
    assert [resumed.train_step(pixels, expected) for _ in range(3)] == rest
    assert rest[-1] < 0.9 * first[0]


def test_what_the_export_form_folds_away_is_not_trained(trainers: Iterator[Trainer]) -> None:
    encoder = next(trainers).encoder
    frozen = {name for name, value in encoder.named_parameters() if not value.requires_grad}
    assert "patch_embed.seq.0.bn.weight" in frozen
    assert "layers.1.blocks.0.attn.norm.weight" in frozen
    assert not {"patch_embed.seq.0.bn.bias", "neck.1.weight", "neck.0.weight"} & frozen


# What cannot be recovered


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("onnx:float32", "onnx:float32 has nothing to recover: its weights are float32"),
        ("coreml:float16", "coreml:float16 has nothing to recover: its weights are float16"),
        ("tflite:w8a8", "tflite:w8a8 cannot be recovered: PyTorch cannot simulate its numbers"),
        ("coreml:w4-palettized", "cannot be recovered: .*weights palette4"),
    ],
)
def test_a_recipe_that_cannot_be_recovered_is_refused(student: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_damage(student, SIZE)


@pytest.mark.parametrize(
    ("student", "message"),
    [("onnx:w5", "target onnx has no recipe 'w5'"), ("android:w4", "no target 'android'")],
)
def test_an_unknown_recipe_is_refused(student: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_damage(student, SIZE)


def test_a_name_without_a_recipe_is_an_architecture() -> None:
    assert parse_damage("half", SIZE) is None
