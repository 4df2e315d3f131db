"""Patterns of weights: one vocabulary, that of the export form, whatever a backend calls them."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.backends.coreml import names as coreml_names
from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.graphs.names import check_patterns, skeletons, weights
from mobilesam_export.model import Sam
from mobilesam_export.target import builtin_targets, load_target, parse_target
from mobilesam_export.target.patterns import check, matches, stored_types
from tests.cli_runner import ERROR, refused

TEXT = (Path(__file__).parents[1] / "targets" / "onnx.toml").read_text(encoding="utf-8")
CONTRACT = Contract(256, 6, load_target("onnx").graph)


@pytest.fixture(scope="module")
def sam() -> Sam:
    """MobileSAM's own size, which patterns are for."""
    return Sam(256)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("stem", True),
        ("stem.*", True),
        ("stem.conv1", True),
        ("stem.conv[12].weight", True),
        ("*", True),
        ("*.conv?", True),
        ("ste", False),
        ("Stem", False),
        ("conv1", False),
        ("stem.conv1.weight.*", False),
        ("stem.", False),
    ],
)
def test_a_pattern_means_a_weight_by_its_name_or_a_module_that_holds_it(
    pattern: str, meant: bool
) -> None:
    assert matches("stem.conv1.weight", pattern) == meant


paths = st.lists(st.sampled_from(["stem", "stage1", "blocks", "0", "q"]), min_size=1, max_size=4)


@given(paths, paths)
@settings(derandomize=True)
def test_a_pattern_without_wildcards_means_what_lies_in_that_module(
    path: list[str], module: list[str]
) -> None:
    assert matches(".".join(path), ".".join(module)) == (path[: len(module)] == module)


def test_the_most_particular_pattern_counts_and_of_equals_the_last() -> None:
    names = {name: name for name in ("down1.expand.weight", "down2.expand.weight", "neck.0.weight")}
    kinds = {"down1.expand": "a", "down[123].expand": "b", "*": "c", "d?wn2.expand": "d"}
    assert stored_types(names, kinds) == dict(zip(names, ("a", "d", "c"), strict=True))
    assert stored_types(names, {"down2": "a"}) == {"down2.expand.weight": "a"}


def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is() -> None:
    keys = ("exceptions", "encoder", "stam.*")
    with pytest.raises(
        TargetError, match=r"exceptions\.encoder: 'stam\.\*' matches no weight"
    ) as caught:
        check(["stem.conv1.weight", "neck.0.weight"], "weight", *keys)
    assert str(caught.value).endswith("such are in stem, neck")
    assert caught.value.keys == keys


@pytest.mark.parametrize("name", builtin_targets())
def test_names_are_known_without_a_checkpoint(name: str, sam: Sam) -> None:
    contract = Contract(256, 6, load_target(name).graph)
    for skeleton, graph in zip(skeletons(contract), split_graphs(sam, contract), strict=True):
        shapes = {path: tensor.shape for path, tensor in weights(graph.module).items()}
        assert {path: t.shape for path, t in weights(skeleton.module).items()} == shapes


def test_looking_names_up_leaves_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    skeletons(CONTRACT)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", builtin_targets())
def test_every_pattern_of_our_recipes_matches_a_weight(name: str) -> None:
    target = load_target(name)
    for recipe in target.recipes.values():
        check_patterns(recipe, Contract(256, 6, target.graph))


@pytest.mark.parametrize(
    ("old", "new", "recipe", "where"),
    [
        ('"transformer.final.v" =', '"transformer.finale.v" =', "w8", "exceptions.decoder"),
        ('"transformer.*" =', '"body.3.*" =', "w4", "exceptions.decoder"),
        # a bias is under the threshold of what is compressed at all
        ('"transformer.*" =', '"transformer.*.bias" =', "w4", "exceptions.decoder"),
        ('"neck.[02]"', '"neck.[02].bias"', "w8a8", "quantize.integer.encoder"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_before_any_work(
    old: str, new: str, recipe: str, where: str, tmp_path: Path
) -> None:
    """With file, line, recipe and pattern, before the checkpoint is looked for."""
    before, _, after = TEXT.rpartition(old)
    (tmp_path / "mine.toml").write_text(before + new + after, encoding="utf-8")
    line = before.count("\n") + 1
    pattern = new.split('"')[1]
    arguments = ["run", "mine.toml", "-r", recipe, "-c", "missing.pt", "--image-size", 256]
    phrases = [f"mine.toml, line {line}: recipe {recipe}: {where}: {pattern!r} matches no weight"]
    refused(tmp_path, arguments, ERROR, phrases)


def test_constants_of_an_ml_program_are_those_of_torchs_export(sam: Sam) -> None:
    _, decoder = split_graphs(sam, Contract(256, 6, load_target("coreml").graph))
    signature = torch.export.export(decoder.module, decoder.example_inputs()).graph_signature
    expected = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    assert coreml_names.weight_paths(expected, decoder.module) == expected
    rounded = {f"{name}_to_fp16": path for name, path in expected.items()}
    found = coreml_names.weight_paths([*rounded, "const_7", "op_1_to_fp16"], decoder.module)
    assert found == rounded


def test_recipes_name_layers_in_no_backends_own_words() -> None:
    for name in builtin_targets():
        text = (Path(__file__).parents[1] / "targets" / f"{name}.toml").read_text(encoding="utf-8")
        assert not re.findall(r'"[pb]_[^"]*"|"[^"]*/\*[^"]*"|body\.', text), name
        assert parse_target(name, text) == load_target(name)
