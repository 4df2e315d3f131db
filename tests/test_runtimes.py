"""What recipes claim about old runtimes, held to what was run."""

import json

import pytest

from benchmarks.runtimes import RESULT, RIGHT, RUNTIMES, WRONG, least_version, verdict
from mobilesam_export.errors import TargetError
from mobilesam_export.target import Tolerance, builtin_targets, load_target, parse_target
from mobilesam_export.target.recipe import Runtime

MATRIX = json.loads(RESULT.read_text())["recipes"]
PACKAGES = {"ONNX Runtime": "onnxruntime", "LiteRT": "ai-edge-litert"}


def test_no_runtime_computes_a_recipe_wrongly() -> None:
    wrong = [
        (recipe, runtime)
        for recipe, answers in MATRIX.items()
        for runtime, answer in answers.items()
        if answer["verdict"] == WRONG
    ]
    assert wrong == []


def test_a_recipe_claims_the_least_runtime_that_was_run() -> None:
    """And claims nothing where nothing was run."""
    measured = {recipe: least_version(answers) for recipe, answers in MATRIX.items()}
    claimed = {}
    for name in builtin_targets():
        for recipe, value in load_target(name).recipes.items():
            if value.runtime is not None:
                package = PACKAGES[value.runtime.name]
                claimed[f"{name}:{recipe}"] = f"{package}=={value.runtime.minimum}"
    assert claimed == measured


def test_the_least_version_is_the_one_from_which_on_all_are_right() -> None:
    names = [runtime.name for runtime in RUNTIMES if runtime.backend == "tflite"]
    answers = {name: {"verdict": RIGHT} for name in names}
    answers[names[2]] = {"verdict": "refused"}
    assert least_version(answers) == names[3]
    answers[names[-1]] = {"verdict": WRONG}
    assert least_version(answers) == ""


def test_an_answer_outside_the_tolerance_is_wrong_and_nan_is_one() -> None:
    tolerance = Tolerance(60, 1, 1, 0.99)
    encoder, decoder = {"embedding_psnr_db": 61.0}, {"mask_iou": 0.995}
    assert verdict({"encoder": encoder, "decoder": decoder}, tolerance) == RIGHT
    assert verdict({"encoder": {"refused": "no"}, "decoder": decoder}, tolerance) == "refused"
    assert verdict({"encoder": {"refused": "no"}, "decoder": {"mask_iou": 0.5}}, tolerance) == WRONG
    lost = {"embedding_psnr_db": float("nan")}
    assert verdict({"encoder": lost, "decoder": decoder}, tolerance) == WRONG


def test_a_runtime_without_a_version_is_refused_with_its_line() -> None:
    with pytest.raises(TargetError, match="expected a version"):
        Runtime("LiteRT", "new")
    table = """description = "x"
backend = "onnx"
default_recipe = "a"
[graph]
layout = "channel-last"
image_input = "uint8"
prompt = "slots"
[recipe.a]
weights = "float32"
activations = "float32"
runtime = { name = "ONNX Runtime", minimum = "new" }
[recipe.a.tolerance]
embedding_psnr_db = 1
logits_max_abs_error = 1
iou_max_abs_error = 1
mask_iou = 0.5
"""
    with pytest.raises(TargetError, match=r"x.toml.*expected a version"):
        parse_target("x", table)
