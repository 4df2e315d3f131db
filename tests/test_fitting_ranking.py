"""Layers that a fit may raise: in which order, and what rounding all the others does."""

from functools import partial

import torch

from mobilesam_export.backends import get_backend
from mobilesam_export.contract import Contract
from mobilesam_export.fitting.ranking import Candidate, compressed_weights, rank, simulated
from mobilesam_export.graphs import split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.sensitivity import Damage
from mobilesam_export.target import load_target


def test_small_layers_with_much_harm_come_first() -> None:
    damages = [
        Damage("encoder", "large", 1000, 10, 40, 0.90, 0.8),
        Damage("encoder", "small", 100, 10, 40, 0.95, 0.9),
        Damage("encoder", "quiet", 100, 10, 50, 1.0, 1.0),
        Damage("encoder", "noisy", 100, 10, 30, 1.0, 1.0),
    ]
    ranked = rank(damages, for_speed=False)
    assert [item.pattern for item in ranked] == ["small", "large", "noisy", "quiet"]


def test_where_a_recipe_is_for_speed_products_cost_too() -> None:
    damages = [
        Damage("encoder", "early", 100, 900, 40, 0.90, 0.8),
        Damage("encoder", "late", 200, 100, 40, 0.90, 0.8),
    ]
    assert [item.pattern for item in rank(damages, for_speed=False)] == ["early", "late"]
    assert [item.pattern for item in rank(damages, for_speed=True)] == ["late", "early"]


def test_weights_that_a_recipe_excepts_are_not_raised_again(sam: Sam) -> None:
    target = load_target("onnx")
    graphs = split_graphs(sam, Contract(256, 6, target.graph))
    found = compressed_weights(graphs[1], target.recipes["w8"], lambda _: True)
    assert not any(name.startswith("transformer.upscaling") for name in found)
    assert any(name.startswith("transformer.final") for name in found)


def test_what_the_ops_of_a_recipe_do_not_hold_is_not_raised(sam: Sam) -> None:
    """Depthwise convolutions and the decoder of a recipe that lists other ops."""
    target = load_target("tflite")
    recipe = target.recipes["w8-dynamic"]
    found = {}
    for graph in split_graphs(sam, Contract(256, 6, target.graph)):
        compresses = partial(get_backend("tflite").compresses, recipe, graph)
        found[graph.spec.name] = compressed_weights(graph, recipe, compresses)
    assert found["decoder"] == []
    names = [name for name in found["encoder"] if name.startswith("stage3.blocks.0.")]
    layers = sorted({name.split(".")[3] for name in names})
    assert layers == ["bias", "fc1", "fc2", "k", "proj", "q", "v"]


def test_a_simulation_rounds_all_but_what_is_raised_and_undoes_it(sam: Sam) -> None:
    target = load_target("onnx")
    encoder, decoder = split_graphs(sam, Contract(256, 6, target.graph))
    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}

    def changed() -> set[str]:
        now = encoder.module.state_dict()
        return {name for name, value in before.items() if not torch.equal(value, now[name])}

    chosen = [Candidate("encoder", "stage2"), Candidate("encoder", "neck")]
    graphs, recipe = (encoder, decoder), target.recipes["w8"]
    compressed = {g.spec.name: compressed_weights(g, recipe, lambda _: True) for g in graphs}
    with simulated(graphs, recipe, compressed, chosen, "float16"):
        rounded = changed()
    assert any(name.startswith("stage3.") for name in rounded)
    assert not any(name.startswith(("stage2.", "neck.")) for name in rounded)
    assert not changed()
