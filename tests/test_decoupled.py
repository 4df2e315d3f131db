"""The three ways of the paper: what each of them trains."""

import pytest
import torch
from torch import Tensor

from benchmarks.decoupled import BATCH, SIZE, WAYS, Way, opened
from mobilesam_export.contract import DEFAULT_POINTS, PLAIN_FORM, Contract
from mobilesam_export.distillation.batches import Batch, Order, Steps
from mobilesam_export.distillation.student import build_student
from mobilesam_export.model import Sam


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sam, Batch, Tensor]:
    """A student's start, and a batch of two images with the teacher's embeddings."""
    images, teacher, embedder = opened(tmp_path_factory.mktemp("parts"), 1, 1)
    contract = Contract(SIZE, DEFAULT_POINTS, PLAIN_FORM)
    steps = Steps(images, Order(BATCH, 1, 0), contract, 2)
    batch = steps[0]
    assert isinstance(batch, Batch)
    start = build_student("tiny", "seeded", teacher, SIZE).student
    return start, batch, embedder.embed(batch.pixels, batch.keys)


@pytest.mark.parametrize("name", WAYS)
def test_the_decoder_learns_in_the_coupled_way_only(
    name: str, parts: tuple[Sam, Batch, Tensor]
) -> None:
    start, batch, expected = parts
    way = Way(name, start, 4, 1e-3)
    way.step(batch, expected)
    changed = {
        key.partition(".")[0]
        for key, value in way.student.state_dict().items()
        if not torch.equal(value, start.state_dict()[key])
    }
    assert changed == {"image_encoder", *(["mask_decoder"] if name == "coupled" else [])}


def test_all_ways_have_the_same_learning_rates(parts: tuple[Sam, Batch, Tensor]) -> None:
    plans = [Way(name, parts[0], 9, 1e-3).plan for name in WAYS]
    rates = [[plan.learning_rate_at(step) for step in range(9)] for plan in plans]
    assert rates[1] == pytest.approx(rates[0])
    assert rates[2] == rates[1]
