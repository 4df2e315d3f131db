"""Calibration: the samples of static recipes, and images that cannot give any."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export import calibration, prompts
from mobilesam_export.backends import reference
from mobilesam_export.calibration import Calibration
from mobilesam_export.contract import Contract
from mobilesam_export.errors import ImageError
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from tests.conftest import tiny_state_dict

SLOTS = Contract(256, 6, load_target("onnx").graph)
SAM = Contract(256, 6, load_target("onnx-sam").graph)
IMAGES = 5


@cache
def predictor(contract: Contract) -> Predictor:
    return reference.load(build_sam(tiny_state_dict(), 256), contract)


def collect(folder: Path | None, contract: Contract = SLOTS) -> Calibration:
    return calibration.collect(folder, predictor(contract))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        Image.fromarray(scene(number, 40 + number, 60)).save(path / f"{number}.png")
    (path / "notes.txt").write_text("no image")
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for path in folder.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("contract", [SLOTS, SAM])
def test_samples_have_the_form_of_the_contract(folder: Path, contract: Contract) -> None:
    found = collect(folder, contract)
    for spec in (contract.encoder, contract.decoder):
        for sample in found.samples[spec.name]:
            assert list(sample) == [item.name for item in spec.inputs]
            for item in spec.inputs:
                shape = [axis for axis in item.shape if not isinstance(axis, str)]
                fixed = [
                    size
                    for size, axis in zip(sample[item.name].shape, item.shape, strict=True)
                    if not isinstance(axis, str)
                ]
                assert fixed == shape
                assert sample[item.name].dtype == item.dtype


def test_every_image_gives_every_kind_of_prompt(folder: Path) -> None:
    found = collect(folder)
    assert len(found.samples["encoder"]) == IMAGES
    decoder = found.samples["decoder"]
    assert len(decoder) == 5 * IMAGES
    labels = {label for sample in decoder for label in sample["point_labels"].ravel()}
    assert labels == {-1.0, 0.0, 1.0, 2.0, 3.0}
    assert sum(float(sample["has_mask_input"][0]) for sample in decoder) == IMAGES


def test_two_slots_are_given_what_fits(folder: Path) -> None:
    contract = Contract(256, 2, load_target("onnx").graph)
    decoder = collect(folder, contract).samples["decoder"]
    assert {sample["point_labels"].shape for sample in decoder} == {(1, 2)}
    assert len(decoder) == 3 * IMAGES


def test_embeddings_are_those_of_the_reference(folder: Path) -> None:
    found = collect(folder)
    encoder = predictor(SLOTS).encoder
    expected = encoder.run(dict(found.samples["encoder"][0]))["image_embeddings"]
    assert np.array_equal(found.samples["decoder"][0]["image_embeddings"], expected)


def test_the_same_images_give_the_same_samples_and_hash(folder: Path) -> None:
    first, second = collect(folder), collect(folder)
    assert first.describe() == second.describe()
    for a, b in zip(first.samples["decoder"], second.samples["decoder"], strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_another_image_gives_another_hash(folder: Path, copied: Path) -> None:
    Image.fromarray(scene(99, 40, 60)).save(copied / "0.png")
    assert collect(folder).sha256 != collect(copied).sha256


def test_generated_scenes_are_not_those_of_verification() -> None:
    from mobilesam_export.verification.cases import verification_scenes

    found = collect(None)
    assert found.source == "generated scenes"
    assert found.images == calibration.GENERATED
    images = [sample["image"] for sample in found.samples["encoder"]]
    for own_scene in verification_scenes(256).values():
        own = prompts.encoder_inputs(own_scene.image, SLOTS)["image"]
        assert not any(np.array_equal(own, image) for image in images)


def test_a_large_folder_is_thinned_out_by_the_seed(tmp_path: Path) -> None:
    for number in range(calibration.MAX_IMAGES + 8):
        (tmp_path / f"{number:03}.png").touch()
    found = calibration.find_images(tmp_path)
    assert len(found) == calibration.MAX_IMAGES
    assert found == sorted(found) == calibration.find_images(tmp_path)
    assert found[-1].name > f"{calibration.MAX_IMAGES:03}.png"


def remove_all(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.unlink()


def remove_two(folder: Path) -> None:
    for number in range(2):
        (folder / f"{number}.png").unlink()


def write_constant(folder: Path) -> None:
    Image.new("RGB", (40, 30), (10, 200, 90)).save(folder / "3.png")


def truncate(folder: Path) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:200])


def write_text(folder: Path) -> None:
    (folder / "3.png").write_text("no image")


def write_texts(folder: Path) -> None:
    for number in (3, 4):
        (folder / f"{number}.png").write_text("no image")


def copy_one(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.write_bytes((folder / "0.png").read_bytes())


FAULTS = [
    (remove_all, "has no image; expected at least 4"),
    (remove_two, "has 3 images; expected at least 4"),
    (write_texts, "3 of its 5 images can be used, expected at least 4; .*3.png is not an image"),
    (copy_one, "only 1 of its images differ from each other; expected at least 4"),
]


@pytest.mark.parametrize(("damage", "message"), FAULTS)
def test_bad_folders_are_refused_in_one_line(
    copied: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copied)
    with pytest.raises(ImageError, match=message) as caught:
        collect(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (write_constant, "is of one color"),
        (truncate, "image file is truncated"),
        (write_text, "is not an image"),
    ],
)
def test_one_image_that_tells_nothing_is_left_out_and_named(
    copied: Path,
    damage: Callable[[Path], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(calibration, "note", notes.append)
    damage(copied)
    assert collect(copied).images == IMAGES - 1
    (note,) = notes
    assert note.startswith("left out of calibration: ")
    assert "3.png" in note
    assert reason in note


@given(st.integers(0, 2**32 - 1), st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 8))
def test_random_prompts_can_be_meant(seed: int, height: int, width: int, slots: int) -> None:
    contract = Contract(256, slots, load_target("onnx").graph)
    for prompt in calibration.random_prompts(np.random.default_rng(seed), height, width, slots):
        prompts.check_prompt(prompt, (height, width), contract)
