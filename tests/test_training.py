"""Training of the demo weights: prompts, losses, and that an interrupted run goes on as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks import train_demo
from benchmarks.train_demo import Stage, Trainer, save_state, save_weights
from benchmarks.training import losses, prompting
from mobilesam_export.checkpoint.identify import compare_state_dict
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.scenes import TRAINING_SEEDS, masked_scene

SCHEDULE = (Stage(128, 2, 1, 1e-4), Stage(192, 1, 1, 1e-4))


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_clicks_lie_on_their_objects(seed: int) -> None:
    masks = masked_scene(seed, 64, 64).masks
    assume(len(masks))
    clicks = prompting.clicks(np.random.default_rng(seed), masks)
    for mask, ((x, y),) in zip(masks, clicks, strict=True):
        assert mask[int(y), int(x)]


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_a_jittered_box_is_near_the_object(seed: int) -> None:
    masks = masked_scene(seed, 128, 128).masks
    assume(len(masks))
    boxes = prompting.boxes(np.random.default_rng(seed), masks)
    limit = prompting.MOST_JITTER * 128 / 1024 + 1e-4
    for mask, box in zip(masks, boxes, strict=True):
        rows, columns = np.nonzero(mask)
        exact = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert all(abs(float(a) - b) <= limit for a, b in zip(box, exact, strict=True))


def test_corrections_are_where_the_answer_is_wrong() -> None:
    mask, found = np.zeros((2, 1, 32, 32), bool)
    mask[0, 4:20, 4:20] = True
    found[0, 4:20, 4:12] = True
    random = np.random.default_rng(0)
    coords, labels = prompting.corrections(random, mask, found, count=5)
    assert coords.shape == (1, 5, 2)
    assert (labels == 1).all()  # all of it is missed foreground
    assert (coords[..., 0] >= 12).all()
    _, labels = prompting.corrections(random, found, mask, count=5)
    assert (labels == 0).all()


def test_right_masks_cost_less_than_wrong_ones() -> None:
    target = torch.zeros(1, 16, 16)
    target[0, 4:12, 4:12] = 1
    right = (target * 2 - 1)[:, None] * 8
    assert losses.mask_losses(right, target).item() < 0.05
    assert losses.mask_losses(-right, target).item() > 1


def test_only_the_best_of_three_masks_learns() -> None:
    target = torch.zeros(1, 16, 16)
    target[0, 4:12, 4:12] = 1
    good, bad = (target * 2 - 1)[:, None] * 2, (1 - target * 2)[:, None] * 2
    logits = torch.cat([bad, good, bad], dim=1).requires_grad_()
    losses.prompt_loss(logits, torch.zeros(1, 3), target).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    moved = logits.grad.abs().sum((0, 2, 3)) > 0
    assert moved.tolist() == [False, True, False]


def test_the_iou_head_is_taught_the_true_iou() -> None:
    target = torch.zeros(1, 16, 16)
    target[0, :8] = 1
    half = torch.full((1, 1, 16, 16), -1.0)
    half[0, 0, :4] = 1
    assert losses.mask_ious(half, target).item() == pytest.approx(0.5)


def trainer(weights: dict[str, torch.Tensor]) -> Trainer:
    return Trainer(build_sam(weights), SCHEDULE, "cpu")


def test_an_interrupted_run_goes_on_as_it_was(
    state_dict: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole = trainer(state_dict)
    whole.train_step()
    save_state(whole, tmp_path / "training.pt")
    expected = [whole.train_step(), whole.train_step()]
    assert whole.done
    resumed = trainer(state_dict)
    resumed.restore(torch.load(tmp_path / "training.pt", weights_only=True))
    assert [resumed.train_step(), resumed.train_step()] == pytest.approx(expected, rel=1e-3)


def test_training_changes_weights_and_keeps_their_names(
    mobilesam: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    run = trainer(mobilesam)
    run.train_step()
    save_weights(run.sam, tmp_path / "demo.safetensors")
    found = load_file(tmp_path / "demo.safetensors")
    assert not compare_state_dict(found)
    name = "image_encoder.neck.0.weight"
    assert found[name].dtype == torch.float16
    assert not torch.equal(run.sam.state_dict()[name], mobilesam[name])


def test_held_out_seeds_are_never_trained_on() -> None:
    last = sum(stage.images for stage in train_demo.SCHEDULE)
    assert last < TRAINING_SEEDS  # so that stages, which begin at multiples of it, do not meet


def test_several_prompts_at_once_are_answered_as_one_by_one(sam: Sam) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(1, 256, 16, 16)
    points, labels = torch.rand(3, 2, 2) * 256, torch.tensor([[1, 0], [1, 1], [0, 1]])
    masks, ious = sam.decode(embeddings, points, labels)
    for index in range(3):
        part = slice(index, index + 1)
        one = sam.decode(embeddings, points[part], labels[part])
        assert torch.allclose(masks[part], one[0], atol=1e-4)
        assert torch.allclose(ious[part], one[1], atol=1e-4)
