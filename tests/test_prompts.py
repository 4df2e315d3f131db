"""Images and prompts in, masks out, as SAM's predictor does it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export import prompts
from mobilesam_export.contract import FILL, Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.errors import UsageError
from mobilesam_export.prompts import Prompt
from mobilesam_export.target import load_target

SLOTS = Contract(256, 6, load_target("onnx").graph)
SAM = Contract(256, 6, load_target("onnx-sam").graph)
CLICK = Prompt(((10.0, 20.0, True),))
EMBEDDINGS = np.zeros((1, 256, 16, 16), np.float32)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (768, 1024)),
        (900, 600, (1024, 683)),  # 682.67 rounds up
        (1024, 1024, (1024, 1024)),
        (2048, 1025, (1024, 513)),  # 512.5 rounds half up
        (1, 5000, (1, 1024)),  # never 0
    ],
)
def test_longest_side_is_resized(height: int, width: int, expected: tuple[int, int]) -> None:
    assert prompts.resized_size(height, width, (1024, 1024)) == expected


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([256, 320, 1024]))
def test_resized_images_fit_and_touch_the_square(height: int, width: int, side: int) -> None:
    resized = prompts.resized_size(height, width, (side, side))
    assert max(resized) == side
    assert min(resized) >= 1


def test_image_is_placed_top_left_and_the_rest_filled() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    square = prompts.encoder_inputs(image, SLOTS)["image"]
    assert square.shape == (1, 256, 256, 3)
    assert square.dtype == np.uint8
    assert (square[0, :128] == 200).all()
    assert (square[0, 128:] == FILL).all()


def test_sam_gets_the_image_without_padding() -> None:
    image = prompts.encoder_inputs(np.zeros((10, 20, 3), np.uint8), SAM)["input_image"]
    assert image.shape == (128, 256, 3)
    assert image.dtype == np.float32


def test_coordinates_are_scaled_by_what_the_image_is_scaled_by() -> None:
    prompt = Prompt(((300.0, 450.0, True),), (60.0, 180.0, 360.0, 810.0))
    inputs = prompts.decoder_inputs(prompt, EMBEDDINGS, (900, 600), SLOTS)
    x, y = 171 / 600, 256 / 900  # 170.67 is rounded up
    expected = [[300 * x, 450 * y], [60 * x, 180 * y], [360 * x, 810 * y]]
    np.testing.assert_allclose(inputs["point_coords"][0, :3], expected, rtol=1e-6)
    assert inputs["point_labels"].tolist() == [[1, 2, 3, -1, -1, -1]]


def test_background_clicks_have_label_0() -> None:
    prompt = Prompt(((1.0, 1.0, True), (2.0, 2.0, False)))
    labels = prompts.decoder_inputs(prompt, EMBEDDINGS, (9, 9), SLOTS)["point_labels"]
    assert labels.tolist() == [[1, 0, -1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        (CLICK, [1, -1]),
        (Prompt(box=(1, 1, 5, 5)), [2, 3]),
        (Prompt(((1, 1, True),), (1, 1, 5, 5)), [1, 2, 3]),
    ],
)
def test_sam_is_told_to_pad_only_without_a_box(prompt: Prompt, labels: list[int]) -> None:
    inputs = prompts.decoder_inputs(prompt, EMBEDDINGS, (30, 40), SAM)
    assert inputs["point_labels"].tolist() == [labels]
    assert inputs["orig_im_size"].tolist() == [30, 40]


def test_a_mask_prompt_is_passed_and_announced() -> None:
    mask = np.ones((1, 1, 64, 64), np.float32)
    inputs = prompts.decoder_inputs(Prompt(mask_input=mask), EMBEDDINGS, (30, 40), SLOTS)
    assert inputs["mask_input"] is mask
    assert inputs["has_mask_input"].tolist() == [1]
    without = prompts.decoder_inputs(CLICK, EMBEDDINGS, (30, 40), SLOTS)
    assert without["has_mask_input"].tolist() == [0]
    assert not without["mask_input"].any()


def test_logits_are_upscaled_before_padding_is_cut_off() -> None:
    logits = np.full((64, 64), -1, np.float32)
    logits[:32, :16] = 1  # the top-left quarter of a 512 x 512 image's left half
    mask = prompts.upscale(logits, (512, 512), square(256)) > 0
    assert mask.shape == (512, 512)
    assert mask[:250, :120].all()
    assert not mask[260:].any()
    portrait = prompts.upscale(logits, (512, 256), square(256)) > 0  # only the left half is image
    assert portrait.shape == (512, 256)
    assert portrait[:250, :120].all()
    assert not portrait[:, 136:].any()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "nothing to segment"),
        (Prompt(((41.0, 1.0, True),)), "41,1 is outside the image, which is 40 x 30"),
        (Prompt(((-1.0, 1.0, True),)), "outside"),
        (Prompt(((float("nan"), 1.0, True),)), "outside"),
        (Prompt(box=(5, 5, 5, 9)), "empty"),
        (Prompt(box=(9, 5, 1, 9)), "X0 < X1"),
        (Prompt(box=(0, 0, 41.5, 9)), "outside"),
        (Prompt(box=(-2, 0, 4, 9)), "outside"),
        (Prompt(box=(-1, -1, 0, 9)), "empty"),
        (Prompt(CLICK.points * 5, (1, 1, 5, 5)), "takes 7 slots .* --points 7"),
    ],
)
def test_prompts_that_cannot_be_meant_are_refused(prompt: Prompt, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prompts.check_prompt(prompt, (30, 40), SLOTS)


def test_a_box_up_to_one_pixel_outside_is_clipped() -> None:
    outside, clipped = Prompt(box=(-1, -0.5, 41, 31)), Prompt(box=(0, 0, 40, 30))
    first, second = (
        prompts.decoder_inputs(prompt, EMBEDDINGS, (30, 40), SLOTS)["point_coords"]
        for prompt in (outside, clipped)
    )
    assert np.array_equal(first, second)


def test_any_number_of_points_is_fine_for_sam() -> None:
    prompts.check_prompt(Prompt(CLICK.points * 20), (30, 40), SAM)


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90), st.integers(0)
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_numpy_resizes_as_torch_does(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    values = np.random.default_rng(seed % 2**32).normal(0, 10, (height, width)).astype(np.float32)
    found = prompts.bilinear(values, (new_height, new_width))
    expected = F.interpolate(
        torch.from_numpy(values)[None, None],
        (new_height, new_width),
        mode="bilinear",
        align_corners=False,
    )[0, 0].numpy()
    assert found.dtype == np.float32
    # Places are float32: 4e-6 off at 40, times 80 from one element to the next.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
