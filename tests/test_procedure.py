"""The manifest's data about pre- and postprocessing is what the program itself does."""

import numpy as np
import pytest
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.bundle.procedure import limits, procedure
from mobilesam_export.contract import Contract, plain_contract
from mobilesam_export.predictor import chosen_index
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.target import Tolerance, load_target

CONTRACT = plain_contract(256, 6)
DATA = procedure(CONTRACT)


def test_an_input_made_as_the_data_says_is_the_program_s() -> None:
    image, steps = scene(3, 90, 140), DATA["preprocess"]
    factor = steps["resize"]["longest_side"] / max(image.shape)
    height, width = (int(side * factor + 0.5) for side in image.shape[:2])
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", tuple(steps["pad"]["to"]), tuple(steps["pad"]["value"]))
    canvas.paste(resized)
    found = prompts.encoder_inputs(image, CONTRACT)["image"][0]
    assert np.array_equal(found, np.asarray(canvas))


@pytest.mark.parametrize(
    ("prompt", "rule"),
    [
        (Prompt(points=((1, 1, True),)), "one_click_without_box"),
        (Prompt(points=((1, 1, True), (2, 2, False))), "otherwise"),
        (Prompt(box=(0, 0, 2, 2)), "otherwise"),
        (Prompt(points=((1, 1, True),), box=(0, 0, 2, 2)), "otherwise"),
    ],
)
def test_the_mask_that_the_data_names_is_the_program_s(prompt: Prompt, rule: str) -> None:
    iou = np.array([[0.9, 0.1, 0.7, 0.3]], np.float32)
    named = DATA["which_mask"][rule]
    expected = named["mask"] if "mask" in named else max(named["among"], key=lambda i: iou[0, i])
    assert chosen_index(prompt, iou) == expected


def test_labels_and_coordinates_that_the_data_names_are_the_program_s() -> None:
    labels = DATA["coordinates"]["labels"]
    prompt = Prompt(points=((70, 45, True), (0, 0, False)), box=(0, 0, 140, 90))
    inputs = prompts.decoder_inputs(prompt, np.zeros(1), (90, 140), CONTRACT)
    names = ["foreground", "background", "box_top_left", "box_bottom_right", "empty", "empty"]
    assert inputs["point_labels"][0].tolist() == [labels[name] for name in names]
    assert inputs["point_coords"][0, 0].tolist() == [128, 45 * 165 / 90]


def test_a_decoder_of_sam_s_interface_chooses_and_upscales_itself() -> None:
    contract = Contract(256, 6, load_target("onnx-sam").graph)
    data = procedure(contract)
    assert data["preprocess"]["pad"] is None
    assert data["which_mask"] == {"chosen_by": "decoder"}
    assert [step["step"] for step in data["postprocess"]["steps"]] == ["threshold"]


def test_limits_are_the_recipe_s_by_stage() -> None:
    found = limits(CONTRACT, Tolerance(40, 0.05, 0.01, 0.98), logits_spread=10)
    assert found["encoder"] == {"psnr_db": 40}
    assert found["decoder"] == {"logits_max_abs": 0.5, "iou_predictions_max_abs": 0.01, "iou": 0.98}
    assert found["mask"] == {"iou": 0.98}
