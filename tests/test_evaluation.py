"""`evaluate`: figures of answers that are known to be right or wrong, and the real command."""

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilesam_export.cluster import LOCAL
from mobilesam_export.contract import Array, Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.evaluation.dataset import Dataset, held_out_scenes
from mobilesam_export.evaluation.naming import folder_names
from mobilesam_export.evaluation.run import EvaluateOptions, run
from mobilesam_export.evaluation.scores import (
    BINS,
    SLOTS,
    Candidate,
    Evaluation,
    Score,
    asked_of,
    evaluate_images,
    interface,
    stability,
)
from mobilesam_export.metrics import boundary_iou, mask_iou
from mobilesam_export.predictor import Predictor
from mobilesam_export.scenes import masked_scene, scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from tests.cli_runner import ERROR, USAGE, refused, warm

CONTRACT = Contract(256, 6, load_target("onnx").graph)
SCENES = held_out_scenes(3, square(256))


def candidate(dataset: Dataset, sign: float) -> Candidate:
    """Answers with the object under the prompt (or, for sign -1, with everything else)."""
    masks: dict[str, Any] = {}

    def encode(inputs: dict[str, Array]) -> dict[str, Array]:
        for name in dataset.names:
            sample = dataset.read(name)
            if np.array_equal(sample.image, inputs["image"][0]):
                masks["now"] = sample.masks
        return {"image_embeddings": np.zeros((1, 256, 16, 16), np.float32)}

    def decode(inputs: dict[str, Array]) -> dict[str, Array]:
        points = inputs["point_coords"][0]
        inside = inputs["point_labels"][0] >= 1
        x, y = points[inside][:2].mean(axis=0) if inputs["point_labels"][0][0] > 1 else points[0]
        found = min(masks["now"], key=lambda m: np.hypot(*_middle(m, x, y)))
        low = np.where(found.reshape(64, 4, 64, 4).mean((1, 3)) > 0.5, 5.0, -5.0) * sign
        return {
            "low_res_masks": np.tile(low, (1, 4, 1, 1)).astype(np.float32),
            "iou_predictions": np.array([[0.9, 0.1, 0.8, 0.2]], np.float32),
        }

    predictor = Predictor(Session(encode, "oracle"), Session(decode, "oracle"), CONTRACT)
    return Candidate(f"{sign:+}", "", predictor, 1)


def _middle(mask: np.ndarray[Any, Any], x: float, y: float) -> tuple[float, float]:
    """How far a point is from a mask: 0 inside, else the distance of the nearest pixel."""
    rows, columns = np.nonzero(mask)
    index = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
    return float(columns[index] - int(x)), float(rows[index] - int(y))


def figures(sign: float) -> dict[str, float]:
    one = candidate(SCENES, sign)
    evaluation = Evaluation({one.name: Score()})
    for record in evaluate_images([one], {}, SCENES, SCENES.names):
        evaluation.add(json.loads(json.dumps(record)))
    return evaluation.scores[one.name].means()


def test_right_answers_to_clicks_are_near_one() -> None:
    found = figures(1)
    assert found["click"] > 0.85  # a quarter of the resolution is not exact
    assert found["click_best"] == pytest.approx(found["click"])
    assert found["stability"] == 1


def test_wrong_answers_are_near_zero() -> None:
    found = figures(-1)
    assert found["click"] < 0.1
    assert found["click_boundary"] < 0.2


@given(shift=st.integers(1, 40))
def test_boundary_iou_falls_with_the_distance(shift: int) -> None:
    mask = np.zeros((200, 200), bool)
    mask[50:150, 50:150] = True
    assert boundary_iou(mask, mask) == 1
    moved, further = (np.roll(mask, n, axis=1) for n in (shift, shift + 1))
    assert boundary_iou(further, mask) <= boundary_iou(moved, mask) < 1


def test_boundary_iou_is_stricter_than_iou_for_a_large_mask() -> None:
    mask = np.zeros((200, 200), bool)
    mask[20:180, 20:180] = True
    smaller = np.zeros_like(mask)
    smaller[24:176, 24:176] = True
    assert boundary_iou(smaller, mask) < 0.5 < (smaller & mask).sum() / mask.sum()


def test_stability_counts_logits_between_the_thresholds() -> None:
    assert stability(np.array([2.0, 2.0, 0.5, -5.0])) == pytest.approx(2 / 3)
    assert stability(np.array([-5.0])) == 1


def test_the_histogram_counts_every_object() -> None:
    score = Score()
    values = [0.0, 0.5, 0.999, 1.0]
    score.add({"objects": [{"click": v} for v in values], "ms": {}})
    assert score.histogram.sum() == len(values)
    assert score.histogram[BINS - 1] == 2


def evaluate(folder: Path, *arguments: object) -> Any:
    done = warm(folder, ["evaluate", *arguments, "--json"])
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def test_files_and_pytorch_score_alike_and_a_second_run_goes_on(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    save, report = tmp_path / "log.jsonl", tmp_path / "report.html"
    asked = (onnx_bundle, "--scenes", 2, "--pytorch", "--save", save)
    found = evaluate(tmp_path, *asked, "--report", report)
    means = [item["mean"] for item in found["candidates"].values()]
    assert len(means) == 2
    assert means[0]["click"] == pytest.approx(means[1]["click"], abs=1e-3)
    assert found["images"] == 2
    page = report.read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 2 * 2  # images, prompts, candidates
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing from elsewhere
    again = evaluate(tmp_path, *asked)
    assert again["candidates"] == found["candidates"]  # times too: nothing was run again


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra [ray] is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's, of its own options
def test_two_workers_of_ray_find_what_one_process_finds(onnx_bundle: Path) -> None:
    options = EvaluateOptions((onnx_bundle,), scenes=3)
    here, there = (
        run(replace(options, ray=address)).as_dict()["candidates"].values()
        for address in (None, LOCAL)
    )
    for one, other in zip(here, there, strict=True):
        assert {**one, "median_ms": None} == {**other, "median_ms": None}


def test_without_annotations_pytorch_is_the_truth(onnx_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(scene(3, 60, 90)).save(tmp_path / "a.png")
    found = evaluate(tmp_path, onnx_bundle, "--images", tmp_path, "--clicks", 2)
    (candidate_found,) = found["candidates"].values()
    assert candidate_found["objects"] <= 4
    assert candidate_found["mean"]["click"] > 0.99
    assert candidate_found["mean"]["box"] > 0.99


def test_a_box_is_held_to_the_mask_that_each_interface_chooses(
    onnx_bundle: Path, onnx_sam_bundle: Path, tmp_path: Path
) -> None:
    Image.fromarray(scene(3, 60, 90)).save(tmp_path / "a.png")
    report = tmp_path / "report.html"
    asked = (onnx_bundle, onnx_sam_bundle, "--images", tmp_path, "--report", report)
    found = evaluate(tmp_path, *asked)
    boxes = [item["mean"]["box"] for item in found["candidates"].values()]
    assert min(boxes) > 0.99
    (note,) = found["notes"]
    assert "onnx-sam" in note
    assert set(re.findall(r"IoU ([\d.]+)", report.read_text())) == {"1.00"}


def test_each_interface_has_a_truth_of_its_own() -> None:
    right, inverted = candidate(SCENES, 1), candidate(SCENES, -1)
    contract = replace(CONTRACT, form=load_target("coreai-segmenter").graph)
    segmenter = replace(right, predictor=replace(right.predictor, contract=contract))
    sample = replace(SCENES.read(SCENES.names[0]), masks=None)
    references = {SLOTS: right, interface(contract): inverted}
    (_, slots), (_, stretched) = asked_of([right, segmenter], references, sample)
    assert mask_iou(slots[0][0].truth, stretched[0][0].truth) < 0.1


def test_missing_and_broken_images_are_named_and_the_run_goes_on(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    shown = masked_scene(3, 60, 90)
    Image.fromarray(shown.image).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    x0, y0, x1, y1 = 10, 10, 40, 40
    annotation = {"id": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
    names = ["a.png", "b.png", "c.png"]
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
                "annotations": [{**annotation, "image_id": n} for n in range(3)],
            }
        )
    )
    asked = ("--images", tmp_path, "--annotations", tmp_path / "c.json")
    found = evaluate(tmp_path, onnx_bundle, *asked)
    assert found["images"] == 1
    assert len(found["problems"]) == 2
    assert "b.png" in found["problems"][0]
    assert "c.png" in found["problems"][1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--annotations", "x.json"), "--annotations needs --images"),
        (("--images", "nowhere"), "nowhere is not a folder"),
        (("--report", "report.txt"), "report.txt is not a .html file"),
        (("--scenes", "0"), "expected 1 to"),
        (("--clicks", "0"), "--clicks is 0; expected 1 to 32 a side"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], said: str, onnx_bundle: Path, tmp_path: Path
) -> None:
    refused(tmp_path, ["evaluate", onnx_bundle, *arguments], USAGE, [said])


def test_nothing_evaluated_is_an_error(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    asked = ["evaluate", onnx_bundle, "--images", tmp_path]
    refused(tmp_path, asked, ERROR, ["nothing was evaluated", "a.png"])


def test_a_bundle_given_twice_is_refused(onnx_bundle: Path, tmp_path: Path) -> None:
    refused(tmp_path, ["evaluate", onnx_bundle, onnx_bundle], USAGE, ["given twice"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["build/a", "build/b"], ["a", "b"]),
        (["old/a", "new/a", "b"], ["old/a", "new/a", "b"]),
        (["x/y/a", "z/y/a", "x/b"], ["x/y/a", "z/y/a", "b"]),
        (["a", "x/a"], ["here/a", "x/a"]),
    ],
)
def test_bundles_go_by_their_folder_and_the_parents_that_tell_them_apart(
    paths: list[str], names: list[str], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    assert folder_names([here / path for path in paths]) == names


def test_a_long_path_of_a_bundle_does_not_break_the_table(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "/".join(["a-folder-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    for folder in ("first", "second"):
        (deep / folder).symlink_to(onnx_bundle)
    found = warm(tmp_path, ["evaluate", deep / "first", "--scenes", 1])
    assert found.code == 0, found.stderr
    assert "a-folder-with-a-long-name" not in found.stdout


def annotated(folder: Path, x1: int = 40) -> tuple[object, ...]:
    """Options of `evaluate` for one image with one rectangle, up to this column."""
    Image.fromarray(scene(3, 60, 90)).save(folder / "a.png")
    table = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "segmentation": [[9, 9, x1, 9, x1, 40, 9, 40]]}],
    }
    (folder / "c.json").write_text(json.dumps(table))
    return ("--images", folder, "--annotations", folder / "c.json", "--save", folder / "log.jsonl")


def test_saved_figures_of_other_masks_or_images_are_refused(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    evaluate(tmp_path, onnx_bundle, *annotated(tmp_path))
    corrected = annotated(tmp_path, x1=50)
    said = "log.jsonl holds another evaluation (other annotations)"
    refused(tmp_path, ["evaluate", onnx_bundle, *corrected], USAGE, [said])
    same = annotated(tmp_path)
    evaluate(tmp_path, onnx_bundle, *same)
    Image.fromarray(scene(4, 60, 90)).save(tmp_path / "a.png")
    refused(tmp_path, ["evaluate", onnx_bundle, *same], USAGE, ["(other images)"])


def test_a_smaller_limit_takes_no_more_of_the_saved_figures(
    onnx_bundle: Path, tmp_path: Path
) -> None:
    asked = (onnx_bundle, "--scenes", 2, "--save", tmp_path / "log.jsonl")
    assert evaluate(tmp_path, *asked)["images"] == 2
    assert evaluate(tmp_path, *asked, "--limit", 1)["images"] == 1
