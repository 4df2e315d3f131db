"""What a predictor asks of its encoder and decoder, and how it chooses the mask."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam_export.contract import Array, Contract
from mobilesam_export.errors import ImageError, UsageError
from mobilesam_export.predictor import Answer, Predictor, chosen_index
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target

SLOTS = Contract(256, 6, load_target("onnx").graph)
SAM = Contract(256, 6, load_target("onnx-sam").graph)
CLICK = Prompt(((20.0, 30.0, True),))
IMAGE = scene(0, 120, 160)


def predictor(contract: Contract, **outputs: Array) -> Predictor:
    """Its embedding is the mean of the image, and its decoder answers `outputs`."""

    def encode(inputs: dict[str, Array]) -> dict[str, Array]:
        (image,) = inputs.values()
        return {"image_embeddings": np.full((1, 256, 16, 16), image.mean(), np.float32)}

    return Predictor(
        Session(encode, "fake"), Session(lambda inputs: {**inputs, **outputs}, "fake"), contract
    )


def logits() -> Array:
    """Four masks: mask i is the first 16 * i rows of 64."""
    rows = np.arange(64)[:, None] < 16 * np.arange(4)[:, None, None]
    return np.broadcast_to(np.where(rows, 5, -5), (4, 64, 64))[None].astype(np.float32)


def slot_answer(prompt: Prompt) -> Answer:
    iou = np.array([[0.99, 0.2, 0.8, 0.5]], np.float32)
    found = predictor(SLOTS, low_res_masks=logits(), iou_predictions=iou)
    return found.predict(prompt, found.embed(np.zeros((256, 256, 3), np.uint8)))


@pytest.mark.parametrize(
    ("prompt", "index", "rows"),
    [(CLICK, 2, 128), (Prompt(CLICK.points * 2), 0, 0), (Prompt(box=(0, 0, 9, 9)), 0, 0)],
)
def test_the_chosen_mask_is_the_one_shown_and_given_on(
    prompt: Prompt, index: int, rows: int
) -> None:
    answer = slot_answer(prompt)
    assert answer.index == index
    assert answer.predicted_iou == pytest.approx([0.99, 0.2, 0.8][index])
    assert answer.mask.shape == (256, 256)
    assert abs(int(answer.mask[:, 0].sum()) - rows) <= 2
    assert np.array_equal(answer.low_res_mask, logits()[:, index : index + 1])


def test_one_click_takes_the_best_of_three_and_anything_else_the_first() -> None:
    iou = np.array([[0.99, 0.2, 0.8, 0.5]])
    assert chosen_index(CLICK, iou) == 2
    assert chosen_index(Prompt(CLICK.points * 2), iou) == 0
    assert chosen_index(Prompt(box=(0, 0, 1, 1)), iou) == 0
    assert chosen_index(Prompt(CLICK.points, (0, 0, 1, 1)), iou) == 0


def test_a_decoder_that_chooses_by_itself_is_left_to_it() -> None:
    full = np.full((1, 1, 120, 160), -1, np.float32)
    full[..., :60] = 1
    found = predictor(SAM, masks=full, iou_predictions=np.array([[0.7]], np.float32))
    answer = found.predict(CLICK, found.embed(IMAGE))
    assert answer.index == 0
    assert answer.predicted_iou == pytest.approx(0.7)
    assert np.array_equal(answer.mask, full[0, 0] > 0)


def test_the_decoder_gets_the_embedding_and_the_prompt() -> None:
    found = predictor(SLOTS)
    image = found.embed(IMAGE)
    assert image.size == (120, 160)
    outputs = found.decode(CLICK, image)
    assert outputs["image_embeddings"] is image.embeddings
    assert outputs["point_coords"][0, 0].tolist() == [32, 48]  # 160 pixels become 256
    with pytest.raises(UsageError, match="outside the image, which is 160 x 120"):
        found.predict(Prompt(((161.0, 0.0, True),)), image)


def test_an_answer_can_be_refined() -> None:
    refined = Prompt(CLICK.points, mask_input=slot_answer(CLICK).low_res_mask)
    found = predictor(SLOTS)
    inputs = found.decode(refined, found.embed(IMAGE))
    assert inputs["mask_input"].shape == SLOTS.decoder.inputs[3].shape
    assert inputs["has_mask_input"].tolist() == [1]


def test_a_mask_of_another_size_is_refused() -> None:
    found = predictor(SLOTS)
    wrong = Prompt(CLICK.points, mask_input=np.zeros((1, 1, 256, 256), np.float32))
    with pytest.raises(UsageError, match=r"mask_input is \(1, 1, 256, 256\).*\(1, 1, 64, 64\)"):
        found.predict(wrong, found.embed(IMAGE))


@pytest.mark.parametrize("as_text", [False, True])
def test_a_file_is_read_as_its_pixels(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(IMAGE).save(path)
    found = predictor(SLOTS)
    read = found.embed(str(path) if as_text else path)
    assert np.array_equal(read.embeddings, found.embed(IMAGE).embeddings)
    assert read.size == (120, 160)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((9, 9), np.uint8), "(9, 9) uint8"),
        (np.zeros((9, 9, 4), np.uint8), "(9, 9, 4) uint8"),
        (np.zeros((9, 9, 3), np.float32), "(9, 9, 3) float32"),
        (np.zeros((0, 9, 3), np.uint8), "(0, 9, 3) uint8"),
        (None, "NoneType"),
    ],
)
def test_other_arrays_are_refused(image: Any, said: str) -> None:
    with pytest.raises(ImageError, match=re.escape(f"the path of a file, found {said}")):
        predictor(SLOTS).embed(image)


@pytest.mark.parametrize(
    ("contract", "most"), [(SLOTS, 6), (SAM, 6), (Contract(256, 2, SLOTS.form), 2)]
)
def test_our_own_prompts_fit_every_decoder(contract: Contract, most: int) -> None:
    assert contract.max_points == most
