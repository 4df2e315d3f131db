"""Each export form computes what the plain model computes, and empty slots change nothing."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobilesam_export.backends import reference
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import as_session, split_graphs
from mobilesam_export.graphs.decoder import SamDecoder, SlotDecoder
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.graphs.names import weights
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.target import GraphForm, builtin_targets, load_target
from mobilesam_export.target.patterns import matching
from tests.conftest import mobilesam_state_dict

SIZE = 256
SLOTS = (2, 6, 16)
TOLERANCE = 1e-4  # on logits of about 5


def random_image(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (1, size, size, 3), generator=generator, dtype=torch.uint8)


@cache
def model(size: int) -> Sam:
    return build_sam(mobilesam_state_dict(), size)


@cache
def expected_embeddings(size: int) -> Tensor:
    return model(size).encode(reference.normalize(random_image(size).numpy(), square(size)))


def embeddings() -> Tensor:
    return expected_embeddings(SIZE)


def encoder(size: int, layout: str, image_input: str, **form: Any) -> Encoder:
    module = Encoder(model(size), GraphForm(layout, image_input, "slots", **form))
    return module.eval().requires_grad_(False)


@cache
def decoder(points: int) -> SlotDecoder:
    return SlotDecoder(model(SIZE), points).eval().requires_grad_(False)


# 448 has no padding in any window stage; 256 and 320 have it in all.
@pytest.mark.parametrize("size", [256, 320, 448])
@pytest.mark.parametrize("layout", ["channel-last", "channel-first"])
@pytest.mark.parametrize("image_input", ["uint8", "float32", "image"])
def test_encoder_form_equals_the_model(size: int, layout: str, image_input: str) -> None:
    image = random_image(size)
    inputs = {
        "uint8": image,
        "float32": image.float(),
        "image": image.float().permute(0, 3, 1, 2),
    }
    found = encoder(size, layout, image_input)(inputs[image_input])
    assert (found - expected_embeddings(size)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("size", [256, 448])
@pytest.mark.parametrize("attention", ["manual", "sdpa", "per-head"])
@pytest.mark.parametrize("mlp_chunks", [False, True])
def test_channel_first_forms_equal_the_model(size: int, attention: str, mlp_chunks: bool) -> None:
    form = encoder(size, "channel-first", "image", attention=attention, mlp_chunks=mlp_chunks)
    found = form(random_image(size).float().permute(0, 3, 1, 2))
    assert (found - expected_embeddings(size)).abs().max() <= TOLERANCE


def test_expanded_maps_in_chunks_have_at_most_four_elements_for_each_pixel() -> None:
    form = encoder(SIZE, "channel-first", "image", mlp_chunks=True)
    sizes: dict[str, int] = {}
    for name, layer in form.named_modules():
        if re.search(r"(stage1|stage4)\.blocks\.\d\.(expand|fc1)\.\d", name):
            layer.register_forward_hook(
                lambda _m, _i, y, name=name: sizes.update({name: y.numel()})
            )
    form(random_image(SIZE).float().permute(0, 3, 1, 2))
    assert sum("stage1" in name for name in sizes) == 2 * 4  # blocks, chunks
    assert sum("stage4" in name for name in sizes) == 2 * 2
    assert max(sizes.values()) == 4 * SIZE**2


def test_channel_last_with_bottlenecks_in_chunks_equals_the_model() -> None:
    found = encoder(SIZE, "channel-last", "uint8", mlp_chunks=True)(random_image(SIZE))
    assert (found - expected_embeddings(SIZE)).abs().max() <= TOLERANCE


def test_channel_last_has_one_form_of_attention() -> None:
    with pytest.raises(TargetError, match='layout = "channel-first"'):
        GraphForm("channel-last", "uint8", "slots", attention="sdpa")


def test_a_form_has_tiles_of_rows_or_chunks_of_channels() -> None:
    with pytest.raises(TargetError, match="row_tiles already makes expanded maps small"):
        GraphForm("channel-last", "uint8", "slots", mlp_chunks=True, row_tiles=8)


FORMS: dict[str, dict[str, Any]] = {
    "channel-last": {},
    "channel-last in chunks": {"mlp_chunks": True},
    "tiled": {"row_tiles": 8},
    "channel-first": {"image_input": "image"},
    "channel-first in chunks": {"image_input": "image", "mlp_chunks": True},
    "batch-one": {},
}


@pytest.mark.parametrize("name", FORMS)
def test_layers_have_the_same_names_in_every_layout(name: str) -> None:
    layout = "channel-last" if name == "tiled" else name.partition(" ")[0]
    form = encoder(SIZE, layout, **{"image_input": "uint8", **FORMS[name]})
    assert [child for child, _ in form.named_children()] == [
        *("pixels", "stem", "stage1", "down1", "stage2", "down2", "stage3", "down3", "stage4"),
        "neck",
    ]
    paths = weights(form)
    for pattern in (
        *("stem.conv1", "stem.conv2", "stage1.blocks.1.expand", "stage1.blocks.1.depthwise"),
        *("stage1.blocks.1.project", "down[123].expand", "down3.depthwise", "down3.project"),
        *("stage2.blocks.1.local_conv", "stage3.blocks.5.fc1", "stage4.blocks.1.fc2"),
        *("stage4.blocks.1.proj", "neck.0", "neck.2"),
    ):
        assert matching(paths, pattern), pattern


@pytest.mark.parametrize(("height", "width"), [(256, 170), (97, 256), (256, 256), (1, 256)])
def test_sam_pixels_are_normalized_and_then_padded_with_zeros(height: int, width: int) -> None:
    image = random_image(SIZE)[0, :height, :width].float()
    expected = model(SIZE).encode(reference.normalize(image.numpy(), square(SIZE)))
    found = encoder(SIZE, "channel-last", "sam")(image)
    assert (found - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("target", builtin_targets())
def test_a_graph_as_a_session_takes_the_arrays_of_its_contract(target: str) -> None:
    contract = Contract(SIZE, 6, replace(load_target(target).graph, gelu="none"))
    expected = reference.load(model(SIZE), contract)
    found = replace(expected, encoder=as_session(split_graphs(model(SIZE), contract)[0]))
    image = scene(0, 200, SIZE)
    error = found.embed(image).embeddings - expected.embed(image).embeddings
    assert np.abs(error).max() <= TOLERANCE


@pytest.mark.parametrize("target", sorted({*builtin_targets()} - {"onnx-sam"}))
def test_a_decoder_as_a_session_answers_prompts(target: str) -> None:
    contract = Contract(SIZE, 6, load_target(target).graph)
    expected = reference.load(model(SIZE), contract)
    found = replace(expected, decoder=as_session(split_graphs(model(SIZE), contract)[1]))
    prompt, image = Prompt(((90.0, 80.0, True),)), expected.embed(scene(0, 200, SIZE))
    right = expected.decode(prompt, image)
    for name, value in found.decode(prompt, image).items():
        assert np.abs(value - right[name]).max() <= TOLERANCE


def test_tanh_gelu_is_another_function() -> None:
    exact = encoder(SIZE, "channel-last", "uint8")(random_image(SIZE))
    tanh = encoder(SIZE, "channel-last", "uint8", gelu="tanh")(random_image(SIZE))
    assert 1e-4 < (exact - tanh).abs().max() < 0.1


@st.composite
def slot_prompts(draw: st.DrawFn) -> tuple[int, list[tuple[float, float, int]], bool, bool, int]:
    """Slots, clicks, whether there are a box and a mask, and a seed for everything else."""
    points = draw(st.sampled_from(SLOTS))
    boxed = draw(st.booleans())
    coordinate = st.floats(0, SIZE, width=32)
    click = st.tuples(coordinate, coordinate, st.integers(0, 1))
    clicks = draw(st.lists(click, max_size=points - 2 * boxed))
    masked = draw(st.booleans()) if clicks or boxed else True
    return points, clicks, boxed, masked, draw(st.integers(0, 2**31))


@given(slot_prompts())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_prompt_in_slots_gives_what_the_model_gives(
    case: tuple[int, list[tuple[float, float, int]], bool, bool, int],
) -> None:
    """Whatever lies in the empty slots, and wherever the full ones are."""
    points, clicks, boxed, masked, seed = case
    random = np.random.default_rng(seed)
    box = np.sort(random.uniform(0, SIZE, (2, 2)), axis=0)
    mask = torch.from_numpy(random.normal(0, 5, (1, 1, SIZE // 4, SIZE // 4)).astype(np.float32))
    full = [(x, y, float(label)) for x, y, label in clicks]
    if boxed:
        full += [(*box[0], 2.0), (*box[1], 3.0)]
    slots = np.column_stack([random.uniform(-999, 999, (points, 2)), np.full(points, -1)])
    slots[random.permutation(points)[: len(full)]] = np.array(full).reshape(-1, 3)
    found = decoder(points)(
        embeddings(),
        torch.from_numpy(slots[None, :, :2].astype(np.float32)),
        torch.from_numpy(slots[None, :, 2].astype(np.float32)),
        mask,
        torch.tensor([float(masked)]),
    )
    expected = model(SIZE).decode(
        embeddings(),
        torch.tensor([[c[:2] for c in clicks]]) if clicks else None,
        torch.tensor([[c[2] for c in clicks]]) if clicks else None,
        torch.from_numpy(box.reshape(1, 4).astype(np.float32)) if boxed else None,
        mask if masked else None,
    )
    assert (found[0] - expected[0]).abs().max() <= TOLERANCE
    assert (found[1] - expected[1]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("points", SLOTS)
def test_every_number_of_points_up_to_all_slots(points: int) -> None:
    for count in range(1, points + 1):
        generator = torch.Generator().manual_seed(count)
        coords = SIZE * torch.rand(1, points, 2, generator=generator)
        labels = torch.randint(0, 2, (1, points), generator=generator).float()
        labels[0, count:] = -1
        mask = torch.zeros(1, 1, SIZE // 4, SIZE // 4)
        found, _ = decoder(points)(embeddings(), coords, labels, mask, torch.zeros(1))
        expected, _ = model(SIZE).decode(embeddings(), coords[:, :count], labels[:, :count])
        assert (found - expected).abs().max() <= TOLERANCE


def test_without_the_key_mask_empty_slots_would_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the property above can fail."""
    monkeypatch.setattr("mobilesam_export.graphs.decoder.MASKED", 0.0)
    coords, labels = torch.full((1, 6, 2), 99.0), torch.tensor([[1.0, -1, -1, -1, -1, -1]])
    mask = torch.zeros(1, 1, SIZE // 4, SIZE // 4)
    found, _ = decoder(6)(embeddings(), coords, labels, mask, torch.zeros(1))
    expected, _ = model(SIZE).decode(embeddings(), coords[:, :1], labels[:, :1])
    assert (found - expected).abs().max() > 0.01


@pytest.mark.parametrize(("count", "multimask"), [(1, True), (2, False), (5, False)])
def test_sam_decoder_chooses_by_the_number_of_points(count: int, multimask: bool) -> None:
    generator = torch.Generator().manual_seed(count)
    coords = torch.cat(
        [SIZE * torch.rand(1, count, 2, generator=generator), torch.zeros(1, 1, 2)], 1
    )
    labels = torch.ones(1, count + 1)
    labels[0, -1] = -1  # SAM's padding point
    mask = torch.zeros(1, 1, SIZE // 4, SIZE // 4)
    found, iou = SamDecoder(model(SIZE))(embeddings(), coords, labels, mask, torch.zeros(1))
    masks, predicted = model(SIZE).decode(embeddings(), coords[:, :-1], labels[:, :-1])
    index = 1 + int(predicted[0, 1:].argmax()) if multimask else 0
    assert (found[0, 0] - masks[0, index]).abs().max() <= TOLERANCE
    assert (iou[0, 0] - predicted[0, index]).abs() <= TOLERANCE
