"""One file for image and prompt, as Apple's ImageSegmenter runs it. Nothing is converted here."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam_export import prompts
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.backends.onnx import backend as onnx_backend
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.procedure import limits, procedure
from mobilesam_export.contract import NOT_ASKED, Contract, plain_contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import TargetError, UsageError
from mobilesam_export.graphs import as_session, file_graphs, split_graphs
from mobilesam_export.metrics import mask_iou
from mobilesam_export.model import Sam
from mobilesam_export.pipeline import Job, check
from mobilesam_export.predictor import Predictor, chosen_index, whole
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene
from mobilesam_export.target import load_target
from mobilesam_export.verification import verify
from mobilesam_export.verification.cases import reference_cases
from mobilesam_export.verification.status import Status

TARGET = load_target("coreai-segmenter")
CONTRACT = Contract(256, 4, TARGET.graph)
IMAGE = scene(0, 90, 140)
ASKED = {
    "click": Prompt(((40.0, 30.0, True),)),
    "background click": Prompt(((40.0, 30.0, False),)),
    "clicks": Prompt(((40.0, 30.0, True), (90.0, 60.0, False), (7.0, 8.0, True))),
    "box": Prompt(box=(20.0, 10.0, 100.0, 70.0)),
    "box and click": Prompt(((40.0, 30.0, True),), (20.0, 10.0, 100.0, 70.0)),
}


def files(sam: Sam, contract: Contract = CONTRACT) -> Predictor:
    """The one file, run as its export form."""
    (graph,) = file_graphs(split_graphs(sam, contract), contract)
    return whole(as_session(graph), contract)


def test_the_interface_is_efficientsam_s() -> None:
    """As models/efficient-sam/export.py of apple/coreai-models (86b363d) writes it."""
    (spec,) = CONTRACT.graphs
    assert [(t.name, t.shape, t.dtype) for t in spec.inputs] == [
        ("batched_images", (1, 3, 256, 256), "float32"),
        ("batched_points", (1, 1, 4, 2), "float32"),
        ("batched_point_labels", (1, 1, 4), "float32"),
    ]
    assert [(t.name, t.shape) for t in spec.outputs] == [
        ("pred_masks", (1, 1, 4, 64, 64)),
        ("iou_scores", (1, 1, 4)),
    ]


@pytest.mark.parametrize("name", ASKED)
def test_the_file_computes_what_the_model_does(name: str, sam: Sam) -> None:
    found, expected = files(sam), reference.load(sam, CONTRACT)
    ours = found.predict(ASKED[name], found.embed(IMAGE))
    right = expected.predict(ASKED[name], expected.embed(IMAGE))
    for output in ("low_res_masks", "iou_predictions"):
        np.testing.assert_allclose(ours.outputs[output], right.outputs[output], atol=2e-5)
    assert ours.index == right.index
    assert mask_iou(ours.mask, right.mask) > 0.999


@pytest.mark.parametrize("name", ASKED)
def test_the_largest_score_is_that_of_the_mask_that_sam_shows(name: str, sam: Sam) -> None:
    """Apple's engine takes the largest of all four, whatever the prompt."""
    found, plain = (
        files(sam),
        reference.load(sam, replace(CONTRACT, form=plain_contract(256, 4).form)),
    )
    answer = found.predict(ASKED[name], found.embed(IMAGE))
    image = np.asarray(Image.fromarray(IMAGE).resize((256, 256), Image.Resampling.BICUBIC))
    scaled = stretched(ASKED[name])
    outputs = plain.decode(scaled, plain.embed(image))
    assert answer.index == chosen_index(scaled, outputs["iou_predictions"])
    scores = answer.outputs["iou_predictions"][0]
    asked = range(1, 4) if scaled.single_click else range(1)
    assert [scores[i] == NOT_ASKED for i in range(4)] == [i not in asked for i in range(4)]


def stretched(prompt: Prompt) -> Prompt:
    """On the image at 256 x 256."""
    across, down = 256 / 140, 256 / 90
    points = tuple((x * across, y * down, inside) for x, y, inside in prompt.points)
    if prompt.box is None:
        return Prompt(points)
    x0, y0, x1, y1 = prompt.box
    return Prompt(points, (x0 * across, y0 * down, x1 * across, y1 * down))


def test_an_image_is_stretched_as_the_data_says() -> None:
    steps = procedure(CONTRACT)["preprocess"]
    height, width = steps["resize"]["stretch"]
    drawn = Image.fromarray(IMAGE).resize((width, height), Image.Resampling.BICUBIC)
    found = prompts.encoder_inputs(IMAGE, CONTRACT)["image"]
    assert steps["range"] == [0, 1]
    assert steps["pad"] is None
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), np.asarray(drawn) / 255, atol=1e-6)


def test_points_are_stretched_with_it_and_empty_slots_are_marked() -> None:
    inputs = prompts.decoder_inputs(ASKED["clicks"], np.zeros(1), (90, 140), CONTRACT)
    assert set(inputs) == {"image_embeddings", "point_coords", "point_labels"}
    np.testing.assert_allclose(
        inputs["point_coords"][0, 1], [90 * 256 / 140, 60 * 256 / 90], rtol=1e-6
    )
    assert inputs["point_labels"].tolist() == [[1, 0, 1, -1]]


def test_a_mask_is_the_resized_sigmoid_from_one_half_on() -> None:
    """Pixel by pixel as SegmentationPostprocessor does it, with centers that correspond."""
    logits = np.random.default_rng(0).normal(0, 4, (5, 7)).astype(np.float32)
    share, height, width = 1 / (1 + np.exp(-logits)), 11, 9
    found = prompts.final_mask(logits, (height, width), CONTRACT)
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * 5 / height - 0.5, 0), 4)
            x = min(max((column + 0.5) * 7 / width - 0.5, 0), 6)
            top, left = int(y), int(x)
            near = [
                (1 - abs(y - r)) * (1 - abs(x - c)) * share[min(r, 4), min(c, 6)]
                for r in (top, top + 1)
                for c in (left, left + 1)
            ]
            assert abs(sum(near) - 0.5) < 1e-6 or found[row, column] == (sum(near) >= 0.5)
    assert found.any()
    assert not found.all()


def test_a_rectangle_has_no_distortion_for_images_of_its_shape(sam: Sam) -> None:
    from mobilesam_export.model import build_sam

    contract = Contract(320, 4, TARGET.graph, frame=Frame(256, 320, 64))
    wide = build_sam(sam.state_dict(), contract.size)
    image = scene(1, 256, 320)
    found, expected = files(wide, contract), reference.load(wide, contract)
    prompt = Prompt(((100.0, 90.0, True),))
    assert prompts.note_on_shape(image, contract) == ""
    assert "stretches it to 320 x 256" in prompts.note_on_shape(scene(1, 200, 200), contract)
    ours = found.predict(prompt, found.embed(image)).outputs["low_res_masks"]
    right = expected.predict(prompt, expected.embed(image)).outputs["low_res_masks"]
    np.testing.assert_allclose(ours, right, atol=2e-5)


def test_verification_has_no_embedding_and_no_mask_prompt(sam: Sam) -> None:
    cases = reference_cases(reference.load(sam, CONTRACT))
    tolerance = TARGET.recipes["float32"].tolerance
    report = verify.verify(files(sam), cases, tolerance)
    assert report.status is Status.PASSED
    assert report.embeddings == ()
    assert {item.prompt for item in report.prompts} == {"click", "clicks", "box", "box-click"}
    assert report.summary().count("PSNR") == 0
    session = files(sam).segmenter
    assert session is not None
    wrong = replace(session, run=lambda inputs: {k: 0 * v for k, v in session.run(inputs).items()})
    assert verify.verify(whole(wrong, CONTRACT), cases, tolerance).status is Status.FAILED


def test_golden_vectors_have_the_file_s_names(sam: Sam, tmp_path: Path) -> None:
    cases = reference_cases(reference.load(sam, CONTRACT))
    golden.write(tmp_path / "golden", cases, CONTRACT)
    (first, *_) = json.loads((tmp_path / "golden" / "golden.json").read_text())["images"]
    given = [*first["encoder"]["inputs"], *first["prompts"][0]["inputs"]]
    (spec,) = CONTRACT.graphs
    for tensors, specs in ((given, spec.inputs), (first["prompts"][0]["outputs"], spec.outputs)):
        assert [(t["name"], tuple(t["shape"])) for t in tensors] == [
            (t.name, t.shape) for t in specs
        ]
    again = golden.read(tmp_path / "golden")[0]
    assert np.array_equal(again.embeddings, prompts.encoder_inputs(again.image, CONTRACT)["image"])
    assert set(again.prompts[0].answer.outputs) == {"low_res_masks", "iou_predictions"}


def test_limits_are_those_of_the_file() -> None:
    found = limits(CONTRACT, TARGET.recipes["float16"].tolerance, logits_spread=10)
    assert set(found) == {"preprocessing", "segmenter", "mask"}
    assert found["preprocessing"]["max"] == 1 / 255


def test_apple_s_model_folder_is_described() -> None:
    """What ModelBundle.swift and BundleKind.swift decode."""
    backend = get_backend(TARGET.backend)
    texts = backend.companions(CONTRACT, "coreai-segmenter-float16")
    assert {name: json.loads(text) for name, text in texts.items()} == {
        "metadata.json": {
            "metadata_version": "0.2",
            "kind": "segmenter",
            "name": "coreai-segmenter-float16",
            "assets": {"main": "segmenter.aimodel"},
        }
    }
    assert backend.companions(plain_contract(256, 6), "x") == {}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(TARGET, split_decoder=True), "--split-decoder adds files beside a decoder"),
        (Job(TARGET, prompt_sets=4), "--prompt-sets adds files beside a decoder"),
        (Job(TARGET, points=1), "points is 1; expected 2"),
    ],
)
def test_options_for_a_decoder_are_refused(
    job: Job, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The extra need not be there: nothing is converted.
    monkeypatch.setattr(get_backend("coreai"), "why_cannot_convert", lambda: "")
    with pytest.raises(UsageError, match=message):
        check(replace(job, checkpoint="seeded"))


def test_what_needs_an_encoder_and_a_decoder_says_so() -> None:
    with pytest.raises(UsageError, match="benchmark times an encoder and a decoder, and here one"):
        CONTRACT.check_apart("benchmark times")
    mask = Prompt(mask_input=np.zeros((1, 1, 64, 64), np.float32))
    with pytest.raises(UsageError, match="takes no mask_input"):
        prompts.check_prompt(mask, (90, 140), CONTRACT)


def test_words_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(TargetError, match=r'image_input = "segmenter" goes with prompt'):
        replace(TARGET.graph, prompt="slots")
    recipe = load_target("coreai").recipes["w8"]
    with pytest.raises(TargetError, match=r"has float32 or float16 weights, found int8"):
        get_backend(TARGET.backend).parse_recipe(recipe, TARGET.graph, TARGET.convert)
    with pytest.raises(TargetError, match='not "segmenter"'):
        onnx_backend.parse_recipe(recipe, TARGET.graph, {"opset": 20})


def test_a_label_that_is_none_changes_nothing(sam: Sam) -> None:
    (graph,) = file_graphs(split_graphs(sam, CONTRACT), CONTRACT)
    image, labels = torch.rand(1, 3, 256, 256), torch.tensor([[[1.0, -1, -1, -1]]])
    points = torch.rand(1, 1, 4, 2) * 256
    moved = points + 50 * (labels < 0)[..., None]
    for one, other in zip(
        graph.module(image, points, labels), graph.module(image, moved, labels), strict=True
    ):
        assert torch.equal(one, other)
