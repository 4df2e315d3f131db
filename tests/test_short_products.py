"""Decoders of short products: the same answers, and no sum that float16 would spoil."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.graphs import Graph, further_graphs, split_graphs
from mobilesam_export.graphs.decoder import Attention, averages
from mobilesam_export.graphs.pointwise import TERMS, with_short_products
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.target import GraphForm
from tests.conftest import SIZE

TOLERANCE = 1e-4  # logits of about 10
SHAPES = {"square": Frame(SIZE, SIZE), "rectangle": Frame(SIZE, 320)}


class Sums(TorchDispatchMode):
    """Remembers how many terms every product of matrices adds up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.terms: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if (name := function._schema.name) in ("aten::mm", "aten::bmm", "aten::addmm"):
            self.terms.add(args[1 if name == "aten::addmm" else 0].shape[-1])
        return function(*args, **(kwargs or {}))


def model(shape: str) -> Sam:
    return build_sam(load_checkpoint("seeded:tiny:0").state_dict, SHAPES[shape])


def decoders(sam: Sam, products: str) -> tuple[Graph, ...]:
    form = GraphForm("channel-first", "uint8", "slots", products=products)
    frame = None if sam.size.is_square else sam.size
    contract = Contract(sam.size.side, 3, form, sets=2, split=True, frame=frame)
    return (split_graphs(sam, contract)[1], *further_graphs(sam, contract))


@torch.no_grad()
def answers(graph: Graph) -> tuple[Tensor, ...]:
    outputs = graph.module(*graph.example_inputs())
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("shape", SHAPES)
def test_short_products_give_the_same_answers(shape: str) -> None:
    sam = model(shape)
    for whole, short in zip(decoders(sam, "whole"), decoders(sam, "short"), strict=True):
        for expected, found in zip(answers(whole), answers(short), strict=True):
            assert (found - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_no_product_of_the_decoder_has_more_terms(shape: str) -> None:
    graph = decoders(model(shape), "short")[0]
    with Sums() as sums:
        answers(graph)
    assert 0 < max(sums.terms) <= TERMS


def test_whole_products_do_have_more() -> None:
    """So the test above can fail."""
    with Sums() as sums:
        answers(decoders(model("square"), "whole")[0])
    assert max(sums.terms) > TERMS


def test_all_layers_are_convolutions() -> None:
    for graph in decoders(model("square"), "short"):
        kinds = {type(part) for part in graph.module.modules()}
        assert not kinds & {nn.Linear, nn.ConvTranspose2d}


def test_the_model_keeps_its_layers() -> None:
    """Export forms share layers with the model, which answers as the reference later."""
    sam = model("square")
    layers = {name: type(part) for name, part in sam.named_modules()}
    decoders(sam, "short")
    assert {name: type(part) for name, part in sam.named_modules()} == layers


def test_an_odd_number_of_positions_is_cut_evenly() -> None:
    sam = build_sam(load_checkpoint("seeded:tiny:0").state_dict, 320)  # 400 positions
    form = GraphForm("channel-first", "uint8", "slots")
    decoder = split_graphs(sam, Contract(320, 2, form))[1].module
    made = with_short_products(decoder, sam.size)
    terms = {part.terms for part in made.modules() if isinstance(part, Attention)}
    assert terms == {0, 50}


def test_averages_in_parts_are_averages() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(1, 2, 3, 48, generator=generator).softmax(-1)
    values = torch.randn(1, 2, 48, 5, generator=generator)
    assert torch.allclose(averages(weights, values, 16), weights @ values, atol=1e-6)
