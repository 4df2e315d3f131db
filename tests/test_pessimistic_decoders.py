"""Pessimistic float16 asks every file that answers prompts, not the plain decoder alone."""

from dataclasses import replace
from typing import Any

import pytest

from mobilesam_export.backends import reference
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.graphs import as_session, further_graphs, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm
from mobilesam_export.verification import pessimistic
from mobilesam_export.verification.cases import ImageCase, reference_cases
from mobilesam_export.verification.float16 import Float16
from mobilesam_export.verification.half import PessimisticFloat16
from tests.conftest import SIZE

CONTRACT = Contract(SIZE, 6, GraphForm("channel-last", "uint8", "slots"), sets=2, split=True)
FURTHER = ("decoder_batch", "decoder_prepared")
Files = tuple[Predictor, tuple[ImageCase, ...]]


@pytest.fixture(scope="module")
def files() -> Files:
    """All files in float32, and two images with a click and a mask each."""
    sam = build_sam(load_checkpoint("seeded:tiny:0").state_dict, SIZE)
    cases = reference_cases(reference.load(sam, CONTRACT))
    few = tuple(replace(case, prompts=(case.prompts[0], case.prompts[-1])) for case in cases)
    graphs = (*split_graphs(sam, CONTRACT), *further_graphs(sam, CONTRACT))
    sessions = {graph.spec.name: as_session(graph) for graph in graphs}
    return Predictor(contract=CONTRACT, **sessions), few


def measured(predictor: Predictor, cases: tuple[ImageCase, ...]) -> Float16:
    return pessimistic.measure(predictor, {"encoder": PessimisticFloat16()}, cases)


def negated(session: Session) -> Session:
    """A file that finds everything but the object."""

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: -value for name, value in session.run(inputs).items()}

    return replace(session, run=run)


def test_right_decoders_agree(files: Files) -> None:
    assert measured(*files).mask_iou > 0.999


@pytest.mark.parametrize("name", FURTHER)
def test_a_wrong_decoder_is_noticed(name: str, files: Files) -> None:
    predictor, cases = files
    wrong: dict[str, Any] = {name: negated(getattr(predictor, name))}
    assert measured(replace(predictor, **wrong), cases).mask_iou < 0.9


def test_each_graph_s_own_values_are_looked_at() -> None:
    """A value of `decoder_prepared` alone that is near 65,504 is told with its name."""
    sam = build_sam(load_checkpoint("seeded:tiny:0").state_dict, SIZE)
    cases = reference_cases(reference.load(sam, CONTRACT))[:2]
    few = tuple(replace(case, prompts=case.prompts[:1]) for case in cases)
    graphs = (*split_graphs(sam, CONTRACT), *further_graphs(sam, CONTRACT))
    halves = {graph.spec.name: PessimisticFloat16() for graph in graphs}
    sessions = {
        graph.spec.name: pessimistic.open_graph(graph, halves[graph.spec.name], ("PointTokens",))
        for graph in graphs
    }
    found = pessimistic.measure(Predictor(contract=CONTRACT, **sessions), halves, few)
    assert found.mask_iou > 0.9
    assert all(half.largest.value > 0 for half in halves.values())
    assert found.tensor.partition(":")[0] in halves
