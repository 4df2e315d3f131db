"""`inspect --sensitivity`: what rounding one group of layers does, the rest being float32."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam_export import sensitivity
from mobilesam_export.backends import reference
from mobilesam_export.commands.inspect import sensitivity_table
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import Graph, as_session, split_graphs
from mobilesam_export.graphs.names import weights
from mobilesam_export.graphs.products import count_products
from mobilesam_export.graphs.resumed import ResumedEncoder
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.prompts import encoder_inputs
from mobilesam_export.rounding import round_weight, rounded
from mobilesam_export.sensitivity import Damage, Sensitivity
from mobilesam_export.target import load_target
from mobilesam_export.target.patterns import matching
from mobilesam_export.verification.cases import ImageCase, reference_cases
from tests.cli_runner import USAGE, refused, warm
from tests.conftest import tiny_state_dict

TARGET = load_target("onnx")
CONTRACT = Contract(256, 6, TARGET.graph)
W8A8 = TARGET.recipes["w8a8"]


@cache
def graphs() -> tuple[Graph, Graph]:
    return split_graphs(build_sam(tiny_state_dict(), 256), CONTRACT)


@cache
def cases() -> tuple[ImageCase, ...]:
    sam = build_sam(tiny_state_dict(), 256)
    return reference_cases(reference.load(sam, CONTRACT))[:1]


@cache
def damages() -> list[Damage]:
    return list(sensitivity.measure(graphs(), W8A8, cases(), CONTRACT))


@pytest.mark.parametrize("target", ["onnx", "coreml", "tflite"])
def test_products_are_counted_in_every_form(target: str) -> None:
    """A stage's linear layer multiplies each of its weights once at each place."""
    form = load_target(target).graph
    encoder, decoder = split_graphs(build_sam(tiny_state_dict(), 256), Contract(256, 6, form))
    numbers = weights(encoder.module)
    found = {
        name: count
        for name, count in count_products(encoder).items()
        if name.startswith("stage2.blocks.0.fc1")  # in parts where a form cuts it
    }
    assert found == {name: numbers[name].numel() * (256 // 8) ** 2 for name in found} != {}
    assert sum(count_products(decoder).values()) > 0


def test_every_large_weight_is_in_one_group() -> None:
    for graph in graphs():
        found = sensitivity.weight_groups(graph.module, W8A8.weight_threshold)
        names = [name for group in found.values() for name in group]
        assert len(names) == len(set(names))
        large = {
            name
            for name, tensor in (*graph.module.named_parameters(), *graph.module.named_buffers())
            if tensor.ndim > 1 and tensor.numel() > W8A8.weight_threshold
        }
        assert set(names) == large


def test_blocks_of_the_encoder_are_groups_of_their_own() -> None:
    encoder, _ = split_graphs(Sam(256), CONTRACT)
    groups = list(sensitivity.weight_groups(encoder.module, 4096))
    assert groups[0] == "stem"
    assert groups[-1] == "neck"
    assert [group for group in groups if group.startswith("stage3")] == [
        f"stage3.blocks.{number}" for number in range(6)
    ]


def test_a_group_is_a_pattern_that_means_its_weights() -> None:
    for graph in graphs():
        names = weights(graph.module, W8A8.weight_threshold)
        for group, own in sensitivity.weight_groups(graph.module, W8A8.weight_threshold).items():
            assert matching(names, group) == own


def test_every_group_of_the_encoder_does_some_damage_and_none_all() -> None:
    encoder = [item for item in damages() if item.graph == "encoder"]
    assert all(15 < (item.embedding_psnr_db or 0) < 90 for item in encoder)
    assert all(0 <= item.mask_iou_min <= item.mask_iou_mean <= 1 for item in damages())


@pytest.mark.parametrize("target_name", ["onnx", "tflite", "coreml"])
def test_an_encoder_resumed_where_it_was_changed_gives_what_a_whole_run_gives(
    target_name: str,
) -> None:
    contract = Contract(256, 6, load_target(target_name).graph)
    encoder, _ = split_graphs(build_sam(tiny_state_dict(), 256), contract)
    inputs = encoder_inputs(cases()[0].image, contract)
    resumed = ResumedEncoder(encoder, inputs)
    for group, names in sensitivity.weight_groups(encoder.module, 1024).items():
        with rounded(encoder.module, group, names, W8A8):
            (expected,) = as_session(encoder).run(inputs).values()
            assert np.array_equal(resumed.embedding(names), expected), group


def test_the_decoder_leaves_the_embedding_alone() -> None:
    decoder = [item for item in damages() if item.graph == "decoder"]
    assert len(decoder) >= 4
    assert all(item.embedding_psnr_db is None for item in decoder)


def test_the_model_is_afterwards_what_it_was() -> None:
    module = graphs()[0].module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with rounded(module, "stem", ["stem.conv2.weight"], W8A8):
        assert not torch.equal(
            module.state_dict()["stem.conv2.weight"], before["stem.conv2.weight"]
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_what_layers_on_rows_take_is_rounded_too() -> None:
    """They take rows beside a map."""
    target = load_target("tflite")
    contract = Contract(256, 6, target.graph)
    encoder, _ = split_graphs(build_sam(tiny_state_dict(), 256), contract)
    with torch.inference_mode():
        exact = encoder.module(*encoder.example_inputs())
        with rounded(encoder.module, "stem", [], target.recipes["w8a8"]):
            found = encoder.module(*encoder.example_inputs())
    assert 0 < (found - exact).abs().max() < 1


@pytest.mark.parametrize(
    ("weights", "steps"), [("int8", 254), ("int4", 15), ("float16", 4096), ("palette8", 200)]
)
def test_weights_are_rounded_as_fine_as_their_bits(weights: str, steps: float) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    settings = {"float16": {"weights": weights, "granularity": "", "weight_threshold": 0}}
    change = settings.get(weights, {"weights": weights})
    if weights == "int4":
        change = {"weights": weights, "granularity": "per_grouped_channel", "group_size": 32}
    recipe = replace(W8A8, exceptions={}, **change)  # type: ignore[arg-type]
    error = (round_weight(weight, recipe) - weight).abs().mean()
    assert 0 < error <= float(weight.abs().max()) / steps


def test_a_palette_has_so_many_numbers() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    recipe = replace(W8A8, weights="palette4")
    assert len(np.unique(round_weight(weight, recipe).numpy())) == 16


def test_bars_are_as_long_as_what_is_lost() -> None:
    found = tuple(
        Damage("encoder", name, 1, 1, 40.0, 1 - loss, 0.5)
        for name, loss in (("a", 0.2), ("b", 0.1), ("c", 0.0))
    )
    lines = sensitivity_table(Sensitivity("onnx", "w8", found)).splitlines()
    assert [line.count("█") for line in lines[2:]] == [24, 12, 0]


def test_a_psnr_without_any_difference_is_null_in_json() -> None:
    values = Damage("encoder", "a", 1, 1, float("inf"), 1.0, 1.0).as_dict()
    assert values["embedding_psnr_db"] is None


def test_the_command_gives_json_and_a_plot(onnx_float16_bundle: Path, tmp_path: Path) -> None:
    plot = tmp_path / "bars.png"
    done = warm(
        tmp_path, ["inspect", onnx_float16_bundle, "--sensitivity", "--plot", plot, "--json"]
    )
    assert done.code == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    assert {group["graph"] for group in groups} == {"encoder", "decoder"}
    with Image.open(plot) as image:
        assert image.size[1] > 20 * len(groups)


def encoder_psnr_db(bundle: Path, folder: Path) -> list[float]:
    """Of each group of the encoder, as the command prints it."""
    done = warm(folder, ["inspect", bundle, "--sensitivity", "--json"])
    assert done.code == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    return [item["embedding_psnr_db"] for item in groups if item["graph"] == "encoder"]


def test_a_core_ml_bundle_takes_its_image_as_core_ml_gives_it(
    coreml_bundle: Path, tmp_path: Path
) -> None:
    """Rounded to float16, no group costs much; an image with another mean costs everything."""
    found = encoder_psnr_db(coreml_bundle, tmp_path)
    assert len(found) >= 9  # the stem, four stages, what is between them, the neck
    assert min(found) > 50


def test_a_tflite_bundle_takes_its_pixels_as_they_are(tflite_bundle: Path, tmp_path: Path) -> None:
    """In eight bits every group costs more than in float16, and none as much as a wrong mean."""
    assert min(encoder_psnr_db(tflite_bundle, tmp_path)) > 40


def test_bundles_and_options_that_make_no_sense_are_refused(
    onnx_bundle: Path, onnx_sam_bundle: Path, tmp_path: Path
) -> None:
    for arguments, phrase in (
        ([onnx_bundle, "--sensitivity"], "rounds nothing"),
        ([onnx_sam_bundle, "--sensitivity"], "those of the onnx target"),
        ([onnx_bundle, "--plot", "x.png"], "go with --sensitivity"),
        ([onnx_bundle, "--sensitivity", "--plot", "x.jpg"], "is not a .png file"),
    ):
        refused(tmp_path, ["inspect", *arguments], USAGE, [phrase])
