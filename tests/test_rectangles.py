"""Inputs that are no squares: what the model makes of them, and that every form computes that."""

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.bundle.manifest import read_manifest
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import Frame, frame_of, square
from mobilesam_export.errors import UsageError
from mobilesam_export.graphs import as_session, further_graphs, ranges, split_graphs
from mobilesam_export.graphs.positions import encoding
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.beyond import NothingBeyond
from mobilesam_export.model.tiny_vit import TinyViTBlock
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import masked_scene, scene
from mobilesam_export.target import GraphForm, builtin_targets, load_target
from mobilesam_export.verification.cases import object_prompts
from mobilesam_export.verification.square import agreement
from tests.cli_runner import warm
from tests.conftest import mobilesam_state_dict

LANDSCAPE, PORTRAIT = Frame(256, 320, 32), Frame(320, 256, 32)
TARGETS = [name for name in builtin_targets() if load_target(name).graph.prompt == "slots"]
TOLERANCE = 1e-4  # on logits of about 5

sides = st.integers(4, 64).map(lambda n: 64 * n)


@cache
def model(size: Frame) -> Sam:
    return build_sam(mobilesam_state_dict(), size)


def contract_of(frame: Frame, form: GraphForm, sets: int = 0, *, split: bool = False) -> Contract:
    return Contract(frame.side, 6, replace(form, gelu="none"), sets, split, frame)


@given(sides, sides)
def test_a_size_is_read_as_it_is_written(width: int, height: int) -> None:
    frame = frame_of(f"{width}x{height}")
    assert (frame.width, frame.height) == (width, height)
    assert frame_of(str(frame), frame.margin or None) == frame


@given(sides, sides)
def test_what_is_computed_lies_between_the_input_and_the_square(width: int, height: int) -> None:
    frame = frame_of(f"{width}x{height}")
    rows, columns = frame.computed
    assert height <= rows <= frame.side
    assert width <= columns <= frame.side


@pytest.mark.parametrize(
    ("text", "margin", "expected"),
    [
        ("1024x", None, "image size is '1024x'; expected a side such as 1024, or WIDTHxHEIGHT"),
        ("1000x768", None, "image size is 1000x768; expected a multiple of 64 from 256 to 4096"),
        ("1024x128", None, "image size is 1024x128; expected a multiple of 64 from 256 to 4096"),
        ("1024x768", 40, "margin is 40; expected a multiple of 16 from 0 to 256 at image size"),
        ("1024x768", 272, "margin is 272; expected a multiple of 16 from 0 to 256"),
        ("1024", 64, "a square of 1024 has no margin; leave --margin out"),
    ],
)
def test_a_wrong_size_is_refused_in_one_line(text: str, margin: int | None, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        frame_of(text, margin)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_sam_clients_know_squares_only() -> None:
    with pytest.raises(UsageError, match="image size is 1024x768, but clients of SAM's own"):
        Contract(1024, 0, load_target("onnx-sam").graph, frame=Frame(768, 1024))


@pytest.mark.parametrize("frame", [LANDSCAPE, PORTRAIT])
def test_a_margin_up_to_the_square_gives_the_squares_embedding(frame: Frame) -> None:
    whole = replace(frame, margin=frame.side - min(frame.shape))
    image = scene(3, *frame.shape)
    rows, columns = frame.over(16)
    expected = model(square(frame.side)).encode(reference.normalize(image, square(frame.side)))
    found = model(whole).encode(reference.normalize(image, whole))
    torch.testing.assert_close(found, expected[:, :, :rows, :columns], rtol=0, atol=1e-6)


@pytest.mark.parametrize("frame", [LANDSCAPE, PORTRAIT])
def test_blocks_that_know_the_padding_beyond_come_nearer_to_the_square(frame: Frame) -> None:
    image = scene(3, *frame.shape)
    rows, columns = frame.over(16)
    expected = model(square(frame.side)).encode(reference.normalize(image, square(frame.side)))
    knowing, ignorant = model(frame), copy.deepcopy(model(frame))
    for module in ignorant.modules():
        if isinstance(module, TinyViTBlock):
            del module.beyond
            module.beyond = NothingBeyond()
    pixels = reference.normalize(image, frame)
    errors = [
        (sam.encode(pixels) - expected[:, :, :rows, :columns]).square().mean()
        for sam in (knowing, ignorant)
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("frame", [LANDSCAPE, PORTRAIT])
def test_folded_ranges_scale_the_padding_beyond_too(frame: Frame) -> None:
    sam = model(frame)
    pixels = reference.normalize(scene(3, *frame.shape), frame)
    exponents = dict.fromkeys(ranges.places(name for name, _ in sam.named_modules()), 3)
    found = ranges.fold_ranges(sam, exponents).encode(pixels)
    torch.testing.assert_close(found, sam.encode(pixels), rtol=0, atol=1e-4)


def test_positions_are_those_of_the_square() -> None:
    whole = model(square(320)).prompt_encoder.image_pe()
    for frame in (LANDSCAPE, PORTRAIT):
        rows, columns = frame.over(16)
        found = encoding(model(frame))[0]
        assert torch.equal(found[: rows * columns], whole[0, :, :rows, :columns].flatten(1).T)
        assert torch.equal(found.sort(0).values, whole[0].flatten(1).T.sort(0).values)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("frame", [LANDSCAPE, PORTRAIT])
def test_every_form_computes_what_the_model_does(target: str, frame: Frame) -> None:
    contract = contract_of(frame, load_target(target).graph)
    expected = reference.load(model(frame), contract)
    encoder, decoder = map(as_session, split_graphs(model(frame), contract))
    found = Predictor(encoder, decoder, contract)
    image = masked_scene(0, 200, 310)
    embedded = expected.embed(image.image)
    assert embedded.embeddings.shape == (1, 256, *frame.over(16))
    assert np.abs(found.embed(image.image).embeddings - embedded.embeddings).max() <= TOLERANCE
    for prompt in object_prompts(image.masks[0], 6).values():
        answers = [item.decode(prompt, embedded)["low_res_masks"] for item in (expected, found)]
        assert answers[0].shape == (1, 4, *frame.over(4))
        assert np.abs(answers[0] - answers[1]).max() <= TOLERANCE


@pytest.mark.parametrize("frame", [LANDSCAPE, PORTRAIT, Frame(576, 1024)])
def test_prompt_sets_and_the_split_decoder_answer_as_the_decoder(frame: Frame) -> None:
    contract = contract_of(frame, load_target("onnx").graph, 3, split=True)
    sam = model(frame)
    graphs = (*split_graphs(sam, contract), *further_graphs(sam, contract))
    sessions = {graph.spec.name: as_session(graph) for graph in graphs}
    plain = Predictor(sessions["encoder"], sessions["decoder"], contract)
    further = Predictor(contract=contract, **sessions)
    embeddings = np.random.default_rng(0).standard_normal((1, 256, *frame.over(16)))
    image = EmbeddedImage(embeddings.astype(np.float32), frame.shape)
    asked = [Prompt(((x, 90.0, True),)) for x in (20.0, 150.0)]
    expected = [plain.decode(prompt, image)["low_res_masks"] for prompt in asked]
    sets = [answer["low_res_masks"] for answer in further.decode_all(asked, image)]
    prepared = further.decode(asked[0], further.with_prepared(image))["low_res_masks"]
    assert np.abs(np.concatenate(expected) - np.concatenate(sets)).max() <= TOLERANCE
    assert np.abs(expected[0] - prepared).max() <= TOLERANCE


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_an_image_of_any_shape_fits(height: int, width: int) -> None:
    for frame in (LANDSCAPE, PORTRAIT):
        rows, columns = prompts.resized_size(height, width, frame.shape)
        assert 1 <= rows <= frame.height
        assert 1 <= columns <= frame.width
        assert rows == frame.height or columns == frame.width


def test_verification_says_how_near_the_rectangle_is_to_the_square(rectangle_bundle: Path) -> None:
    done = warm(rectangle_bundle.parent, ["verify", rectangle_bundle])
    assert done.code == 0, done.stderr
    found = read_manifest(rectangle_bundle)["verification"]["square"]
    assert found["objects"] > 10
    assert 0 < found["worst"] < min(found["click"], found["box"]) <= 1
    assert f"against the square mask IoU by click {found['click']:.3f}" in done.stdout


def test_the_agreement_of_the_same_masks_is_good() -> None:
    contract = contract_of(LANDSCAPE, load_target("onnx").graph)
    same = reference.load(model(LANDSCAPE), contract)
    found = agreement(same, same, [masked_scene(0, *LANDSCAPE.shape)])
    assert (found.click, found.box, found.worst, found.good) == (1, 1, 1, True)


def test_an_image_of_another_shape_is_segmented_and_that_is_said(
    rectangle_bundle: Path, tmp_path: Path
) -> None:
    for name, shape in (("landscape", (256, 320)), ("portrait", (320, 256))):
        path = tmp_path / f"{name}.png"
        Image.fromarray(scene(7, *shape)).save(path)
        out = tmp_path / f"{name}-mask.png"
        done = warm(tmp_path, ["segment", rectangle_bundle, path, "--point", "100,100", "-o", out])
        assert done.code == 0, done.stderr
        with Image.open(out) as mask:
            assert mask.size == shape[::-1]
        said = "this bundle is for the shape of 320 x 256: the model sees it at 205 x 256"
        assert (said in done.stderr) == (name == "portrait")


def test_files_are_evaluated_on_scenes_of_their_shape(rectangle_bundle: Path) -> None:
    options = ["--scenes", "1", "--pytorch", "--json"]
    done = warm(rectangle_bundle.parent, ["evaluate", rectangle_bundle, *options])
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["dataset"] == "1 held-out scenes of 320 x 256"
