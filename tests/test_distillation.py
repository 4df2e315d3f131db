"""Distillation in its parts: views, order, losses, steps; on encoders of one layer."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.distillation import schedule
from mobilesam_export.distillation.batches import Order, Steps
from mobilesam_export.distillation.dataset import open_images
from mobilesam_export.distillation.losses import embedding_loss
from mobilesam_export.distillation.student import build_student, check_embedding
from mobilesam_export.distillation.trainer import Plan, Trainer
from mobilesam_export.distillation.views import LEAST_AREA, WHOLE, view
from mobilesam_export.errors import DistillationError, UsageError
from mobilesam_export.images import ImageArray, load_image
from mobilesam_export.model.architecture import load_architecture
from mobilesam_export.scenes import scene
from tests.distillation_parts import CONTRACT, ONE, SIZE, one_layer, teacher, write_images

PLAN = Plan(steps=20, learning_rate=0.01, loss="mse")
COUNTS = st.integers(1, 12)


@given(content=st.text(max_size=5), number=st.integers(0, 9), sides=st.tuples(COUNTS, COUNTS))
def test_a_view_is_a_part_of_its_image_and_always_the_same(
    content: str, number: int, sides: tuple[int, int]
) -> None:
    image = np.arange(math.prod(sides) * 3).reshape(*sides, 3).astype(np.uint8)
    found = view(image, content, number)
    assert np.array_equal(found, view(image, content, number))
    if number == WHOLE:
        assert found is image
    assert 0 < found.shape[0] <= sides[0]
    assert 0 < found.shape[1] <= sides[1]
    for side, whole in zip(found.shape[:2], sides, strict=True):
        assert side >= whole * LEAST_AREA**0.5 - 1
    pixels = {tuple(p) for p in image.reshape(-1, 3)}
    assert {tuple(p) for p in found.reshape(-1, 3)} <= pixels


def test_views_differ_and_some_are_mirrored() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:] = np.arange(8)[:, None]
    rising = [bool(view(image, "a", number)[0, -1, 0] > 1) for number in range(1, 20)]
    assert any(rising)
    image[:, 0] = 9
    assert len({view(image, "a", number).shape for number in range(20)}) > 3


@given(images=COUNTS, views=st.integers(0, 3), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_epoch_shows_every_image_once(images: int, views: int, seed: int, epoch: int) -> None:
    order = Order(images, views, seed)
    samples = [order.sample(epoch * images + place) for place in range(images)]
    assert sorted(image for image, _ in samples) == list(range(images))
    assert {number for _, number in samples} == {epoch % views if views else epoch}


def test_processes_divide_a_batch_and_lose_nothing(tmp_path: Path) -> None:
    images = open_images("scenes:6", SIZE, 1, tmp_path / "images.json")
    whole = Steps(images, Order(6, 2, 0), CONTRACT, batch=4)
    halves = [replace(whole, rank=rank, processes=2) for rank in range(2)]
    for step in range(3):
        keys = keys_of(whole, step)
        assert keys_of(halves[0], step) == keys[::2]
        assert keys_of(halves[1], step) == keys[1::2]


def keys_of(steps: Steps, step: int) -> tuple[str, ...]:
    (batch,) = steps.load(step, step + 1, readers=0)
    assert len(batch.pixels) == len(batch.keys)
    return batch.keys


def test_losses_are_nothing_for_the_same_embedding_and_known_for_others() -> None:
    expected = torch.zeros(1, 4, 2, 2)
    expected[:, 0] = 1
    opposite = -expected
    for kind in ("mse", "huber", "cosine", "mse+cosine"):
        assert embedding_loss(expected, expected, kind).item() == pytest.approx(0, abs=1e-6)
    assert embedding_loss(opposite, expected, "mse").item() == pytest.approx(4 / 4)
    assert embedding_loss(opposite, expected, "huber").item() == pytest.approx(1.5 / 4)
    assert embedding_loss(opposite, expected, "cosine").item() == pytest.approx(2)
    assert embedding_loss(opposite, expected, "mse+cosine").item() == pytest.approx(3)


def test_the_learning_rate_warms_up_and_falls_to_its_last_share() -> None:
    rates = [schedule.learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == pytest.approx(1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(schedule.FINAL_SHARE)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs_have_a_learning_rate(total: int) -> None:
    rates = [schedule.learning_rate(step, total, 1.0) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)


# Images


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three images."""
    return write_images(tmp_path / "images")


def test_broken_and_double_files_are_left_out_and_named(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "broken.jpg").write_bytes(b"no image")
    (image_folder / "copy.png").write_bytes((image_folder / "0.png").read_bytes())
    images = open_images(str(image_folder), SIZE, 8, tmp_path / "new" / "images.json")
    assert len(images.training) == 2
    assert len(images.held_out) == 1
    assert any("broken.jpg is not an image" in text for text in images.problems)
    assert any("is the same file as" in text for text in images.problems)
    assert len(images.problems) == 2


def test_a_folder_is_divided_in_the_same_way_wherever_it_lies(
    image_folder: Path, tmp_path: Path
) -> None:
    first = open_images(str(image_folder), SIZE, 1, tmp_path / "a.json")
    moved = image_folder.rename(tmp_path / "moved")
    (moved / "0.png").rename(moved / "z.png")
    second = open_images(str(moved), SIZE, 1, tmp_path / "b.json")
    assert first.sha256 == second.sha256


def test_only_changed_files_are_read_again(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = tmp_path / "images.json"
    first = open_images(str(image_folder), SIZE, 1, listing)
    first.save(listing)
    read: list[str] = []

    def noted(path: Path) -> ImageArray:
        read.append(path.name)
        return load_image(path)

    monkeypatch.setattr("mobilesam_export.distillation.dataset.load_image", noted)
    (image_folder / "1.png").write_bytes((image_folder / "2.png").read_bytes() + b"\0")
    second = open_images(str(image_folder), SIZE, 1, listing)
    assert read == ["1.png"]
    assert first.sha256 != second.sha256


def test_scenes_are_wide_high_and_square_as_what_a_model_will_see(tmp_path: Path) -> None:
    found = open_images("scenes:4", SIZE, 3, tmp_path / "images.json")
    for images in (found.training, found.held_out):
        shapes = [image.read().shape[:2] for image in images]
        assert shapes[:3] == [(SIZE * 3 // 4, SIZE), (SIZE, SIZE * 2 // 3), (SIZE, SIZE)]


@pytest.mark.parametrize("source", ["scenes:", "scenes:0", "scenes:x", "scenes:-1"])
def test_scenes_without_a_count_are_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected scenes:COUNT"):
        open_images(source, SIZE, 1, tmp_path / "images.json")


# Steps


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Two images and the embeddings that a teacher of one layer gives them."""
    pixels = torch.from_numpy(np.stack([scene(seed, SIZE, SIZE) for seed in range(2)]))
    return pixels, teacher().embed(pixels)


def test_training_lowers_the_loss_and_the_average_follows(batch: tuple[Tensor, Tensor]) -> None:
    trainer = Trainer(one_layer(1), PLAN, ONE)
    losses = [trainer.train_step(*batch) for _ in range(PLAN.steps)]
    assert losses[-1] < losses[0] / 2
    weights = [next(part.parameters()) for part in (trainer.encoder, trainer.average)]
    start = next(one_layer(1).parameters())
    assert 0 < (weights[1] - start).norm() < (weights[0] - start).norm() * 1.5
    assert not torch.equal(*weights)


def test_a_loss_that_is_not_finite_changes_no_weight(batch: tuple[Tensor, Tensor]) -> None:
    pixels, expected = batch
    trainer = Trainer(one_layer(1), PLAN, ONE)
    before = next(trainer.encoder.parameters()).clone()
    with pytest.raises(DistillationError, match="the loss is nan"):
        trainer.train_step(pixels, expected * math.nan)
    assert trainer.step == 0
    assert torch.equal(before, next(trainer.encoder.parameters()))


def test_a_restored_trainer_computes_the_same_losses(batch: tuple[Tensor, Tensor]) -> None:
    whole = Trainer(one_layer(1), PLAN, ONE)
    for _ in range(2):
        whole.train_step(*batch)
    resumed = Trainer(one_layer(2), PLAN, ONE)
    resumed.restore(copy.deepcopy(whole.state()))
    assert [resumed.train_step(*batch) for _ in range(3)] == [
        whole.train_step(*batch) for _ in range(3)
    ]


def test_a_student_begins_as_it_is_told(state_dict: dict[str, Tensor]) -> None:
    decoder = {k: v for k, v in state_dict.items() if not k.startswith("image_encoder.")}
    taught = replace(teacher(), decoder=decoder)
    built = build_student("tiny", "seeded:3", taught, SIZE).student
    expected = seeded_state_dict(3, load_architecture("tiny"))
    name = "image_encoder.neck.0.weight"
    assert torch.equal(built.state_dict()[name], expected[name])
    with pytest.raises(UsageError, match=r"--init demo has widths 64-128.*tiny has widths 32-64"):
        build_student("tiny", "demo", taught, SIZE)


def test_an_embedding_of_another_shape_is_refused() -> None:
    check_embedding(one_layer(0), SIZE)
    with pytest.raises(UsageError, match=r"is \(1, 128, 16, 16\); expected .* \(1, 256, 16, 16\)"):
        check_embedding(nn.Conv2d(3, 128, 16, 16), SIZE)
