"""What recipes claim about old runtimes, held to what was run."""

import json

import pytest

from benchmarks.runtimes import (
    CLAIMED,
    RESULT,
    RIGHT,
    RUNTIMES,
    WRONG,
    all_recipes,
    least_version,
    verdict,
)
from mobilesam_export.errors import TargetError
from mobilesam_export.target import Tolerance, builtin_targets, load_target, parse_target
from mobilesam_export.target.recipe import Runtime

MATRIX = json.loads(RESULT.read_text())["recipes"]


def test_no_runtime_computes_a_recipe_wrongly() -> None:
    wrong = [
        (recipe, runtime)
        for recipe, answers in MATRIX.items()
        for runtime, answer in answers.items()
        if answer["verdict"] == WRONG
    ]
    assert wrong == []


def test_the_default_recipe_of_every_target_was_run_on_every_runtime() -> None:
    for target in {recipe.partition(":")[0] for recipe in all_recipes()}:
        loaded = load_target(target)
        names = [item.name for item in RUNTIMES if item.backend == loaded.backend]
        assert list(MATRIX[f"{target}:{loaded.default_recipe}"]) == names


def test_a_recipe_claims_the_least_runtime_that_was_run() -> None:
    for recipe, answers in MATRIX.items():
        target, _, name = recipe.partition(":")
        claim = load_target(target).recipes[name].runtime
        assert claim is not None, recipe
        assert claim.minimum == least_version(answers, CLAIMED[claim.name]), recipe


def test_a_recipe_that_was_not_run_claims_nothing() -> None:
    for name in builtin_targets():
        for recipe, value in load_target(name).recipes.items():
            assert value.runtime is None or f"{name}:{recipe}" in MATRIX


def test_the_least_version_is_the_one_from_which_on_all_are_right() -> None:
    package = "ai-edge-litert"
    versions = [item.version for item in RUNTIMES if item.package == package]
    answers = {f"{package}=={version}": {"verdict": RIGHT} for version in versions}
    answers["tflite-runtime==2.14.0"] = {"verdict": RIGHT}
    assert least_version(answers, package) == versions[0]
    answers[f"{package}=={versions[2]}"] = {"verdict": "refused"}
    assert least_version(answers, package) == versions[3]
    answers[f"{package}=={versions[-1]}"] = {"verdict": WRONG}
    assert least_version(answers, package) == ""


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
logits_error = 0.1
iou_max_abs_error = 1
mask_iou = 0.5
"""
    with pytest.raises(TargetError, match=r"x.toml.*expected a version"):
        parse_target("x", table)
