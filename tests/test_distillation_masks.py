"""The second phase: masks of two embeddings compared through one frozen decoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor

from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.batches import Batch
from mobilesam_export.distillation.masks import (
    MaskLoss,
    boxes_around,
    mask_losses,
    points_in,
)
from mobilesam_export.distillation.options import DistillOptions
from mobilesam_export.distillation.trainer import Plan
from mobilesam_export.errors import UsageError
from mobilesam_export.model import Sam, build_sam
from tests.conftest import SIZE
from tests.distillation_parts import ONE, run

IMAGES = Batch(torch.empty(0), ("a", "b"), ((SIZE, SIZE), (SIZE // 2, SIZE)))
STEPS, MASK_STEPS = 3, 3


@pytest.fixture(scope="module")
def demo_sam() -> Sam:
    return build_sam(load_checkpoint("demo").state_dict, SIZE)


def embeddings(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 256, SIZE // 16, SIZE // 16, generator=generator)


def test_the_teacher_s_own_embedding_has_the_least_loss(demo_sam: Sam) -> None:
    loss = MaskLoss(demo_sam, demo_sam)
    expected = embeddings(0)
    own, near, far = (
        float(loss(found, expected, IMAGES, 0))
        for found in (expected, expected + 0.1 * embeddings(1), embeddings(1))
    )
    assert own < near < far


def test_a_batch_costs_the_mean_of_its_images(demo_sam: Sam) -> None:
    loss, found, expected = MaskLoss(demo_sam, demo_sam), embeddings(1), embeddings(0)
    alone = [
        float(loss(found[i : i + 1], expected[i : i + 1], part, 0))
        for i, part in enumerate(
            Batch(torch.empty(0), (key,), (size,))
            for key, size in zip(IMAGES.keys, IMAGES.sizes, strict=True)
        )
    ]
    assert float(loss(found, expected, IMAGES, 0)) == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


def test_only_the_embedding_learns(demo_sam: Sam) -> None:
    found = embeddings(1).requires_grad_()
    MaskLoss(demo_sam, demo_sam)(found, embeddings(0), IMAGES, 0).backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert (found.grad.abs().amax((1, 2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in demo_sam.parameters())


@given(st.text(max_size=5), st.integers(0, 10**6), st.integers(1, 1024), st.integers(1, 1024))
def test_points_lie_in_the_image_and_come_again(
    key: str, step: int, height: int, width: int
) -> None:
    points = points_in(key, step, (height, width))
    assert (points >= 0).all()
    assert (points[:, 0] < width).all()
    assert (points[:, 1] < height).all()
    assert torch.equal(points, points_in(key, step, (height, width)))
    if height * width > 10**4:
        assert not torch.equal(points, points_in(key, step + 1, (height, width)))


@given(arrays.arrays(bool, (3, 8, 8)))
@settings(max_examples=50)
def test_boxes_reach_from_the_first_to_the_last_pixel(masks: NDArray[np.bool_]) -> None:
    boxes, there = boxes_around(torch.from_numpy(masks))
    assert there.tolist() == masks.any(axis=(1, 2)).tolist()
    for mask, box in zip(masks[there.numpy()], boxes[there], strict=True):
        rows, columns = np.nonzero(mask)
        ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == [4 * end for end in ends]


def test_a_mask_that_is_sure_and_right_costs_nothing() -> None:
    target = torch.zeros(2, 4, 4, dtype=torch.bool)
    target[0, 1:3] = True  # the other is empty
    sure = torch.where(target, 50.0, -50.0)
    assert float(mask_losses(sure, target).max()) == pytest.approx(0, abs=1e-6)
    assert float(mask_losses(-sure, target).min()) > 40


def test_each_phase_has_its_own_warm_up_and_cosine() -> None:
    plan = Plan(20, 1e-3, "mse", mask_steps=20)
    rates = [plan.learning_rate_at(step) for step in range(plan.total)]
    first, second = rates[:20], rates[20:]
    assert [plan.compares_masks(step) for step in (19, 20)] == [False, True]
    assert max(first) == pytest.approx(1e-3)
    assert [10 * rate for rate in second] == pytest.approx(first)


def test_the_second_phase_keeps_the_loss_of_embeddings(tmp_path: Path, demo_sam: Sam) -> None:
    """Masks alone give up what embeddings had won."""
    masks = MaskLoss(demo_sam, demo_sam)
    trained = run(tmp_path, ONE, 1, masks=masks, mask_steps=1)
    (first, batch) = trained.steps.load(0, 2, 0)
    assert trained._mask_loss(first) is None
    trained.trainer.step = 1
    loss = trained._mask_loss(batch)
    assert loss is not None
    found, expected = embeddings(0), embeddings(1)
    apart = schedule.EMBEDDING_WEIGHT * torch.nn.functional.mse_loss(found, expected)
    assert loss(found, expected) == apart + masks(found, expected, batch, 1)


def test_an_interrupted_second_phase_goes_on_with_the_same_losses(
    tmp_path: Path, demo_sam: Sam
) -> None:
    masks = MaskLoss(demo_sam, demo_sam)
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", ONE, STEPS, masks=masks, mask_steps=MASK_STEPS)
    whole.train()
    assert len(whole.log.losses) == STEPS + MASK_STEPS
    part = run(tmp_path / "part", ONE, STEPS, masks=masks, mask_steps=MASK_STEPS)
    for batch in part.steps.load(0, STEPS + 1, 0):
        part.log.losses.append(part._step(batch))
    part._save()
    resumed = run(tmp_path / "part", ONE, STEPS, masks=masks, mask_steps=MASK_STEPS)
    assert resumed.trainer.step == STEPS + 1
    resumed.train()
    assert resumed.log.losses == whole.log.losses


def test_fewer_than_no_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="--mask-steps is -1; expected 0 or more"):
        DistillOptions("scenes:9", Path("x.safetensors"), mask_steps=-1)
