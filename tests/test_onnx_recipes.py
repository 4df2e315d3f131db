"""Recipes of ONNX in fewer bits that no file can have, and those that lack samples or a weight."""

from dataclasses import replace

import numpy as np
import pytest

from mobilesam_export.backends.onnx import quantize
from mobilesam_export.errors import TargetError
from mobilesam_export.target import Recipe, load_target
from tests.test_onnx_quantize import finder, linear_model

W8A8 = load_target("onnx").recipes["w8a8"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantize": {"speed": 1}}, "unknown key 'speed'"),
        ({"quantize": {"ranges": "best"}}, "ranges: minmax"),
        ({"quantize": {"percentile": 5}}, "percentile"),
        ({"quantize": {"rewrite": 1}}, "rewrite"),
        ({"quantize": {"gelu": "quick"}}, "gelu: none, tanh"),
        ({"quantize": {"gelu": "tanh"}}, "gelu only with rewrite"),
        ({"quantize": {"integer": {"neck": []}}}, "integer"),
        ({"quantize": {}}, "integer says which"),
        ({"granularity": "per_tensor"}, "per_channel, not per_tensor"),
        ({"activations": "int16"}, "found int8 and int16"),
        ({"exceptions": {"encoder": {"neck.*": "palette4"}}}, "not palette4"),
    ],
)
def test_recipes_that_no_file_can_have_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        quantize.check_recipe(replace(W8A8, **change))  # type: ignore[arg-type]


def test_a_static_recipe_without_samples_is_refused() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    with pytest.raises(TargetError, match="was given no samples"):
        quantize.quantize(model, "encoder", W8A8, quantize.check_recipe(W8A8), finder([]), {})


def test_a_pattern_that_matches_no_weight_is_refused() -> None:
    model = linear_model(np.eye(4, dtype=np.float32), None)
    recipe: Recipe = replace(W8A8, quantize={"integer": {"encoder": ["nothing"]}})
    sample = {"x": np.ones((5, 4), np.float32)}
    model.graph.output[0].name = model.graph.node[0].output[0] = "image_embeddings"
    with pytest.raises(TargetError, match="'nothing' matches no matrix of the encoder"):
        quantize.quantize(
            model, "encoder", recipe, quantize.check_recipe(recipe), finder([sample]), {}
        )
