"""What a target says to the ONNX backend, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.backends.onnx import quantize
from mobilesam_export.backends.onnx.rewrite import ATTENTION_OPSET
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GraphForm, Recipe

OPSETS = range(18, 24)  # what torch's exporter (2.13) writes
PRECISIONS = (("float32", "float32"), ("float16", "float16"))


@dataclass(frozen=True)
class OnnxSettings(Settings):
    """What the ONNX backend has read.

    Attributes:
        opset: of ONNX's own operators.
        quantization: how weights are compressed; None where they are not.
    """

    opset: int
    quantization: quantize.Settings | None


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> OnnxSettings:
    """See `Backend.parse_recipe`."""
    opset = _opset(convert)
    if form.image_input in ("image", "segmenter"):
        raise TargetError(
            'an onnx target has image_input = "uint8", "float32" or "sam", '
            f'not "{form.image_input}"',
            *("graph", "image_input"),
        )
    if form.image_input == "sam" and form.prompt != "sam":
        raise TargetError(
            f'image_input = "sam" goes with prompt = "sam", found {form.prompt!r}',
            *("graph", "prompt"),
        )
    if recipe.calibrate_weights and not recipe.compressed:
        raise TargetError(
            f"calibrate_weights is for int8 and int4 weights, not for {recipe.weights}",
            "calibrate_weights",
        )
    if not recipe.compressed:
        _check_float(recipe)
        if recipe.keep_float32:
            from mobilesam_export.graphs import names

            names.check_kept(recipe.keep_float32, form, layers=True)
        return OnnxSettings(opset, None)
    if recipe.keep_float32:
        raise TargetError("keep_float32 is for float16 recipes; use exceptions", "keep_float32")
    quantization = quantize.check_recipe(recipe)
    if quantization.rewrite and opset < ATTENTION_OPSET:
        raise TargetError(
            f"rewrite = true writes the operator Attention, which needs opset = {ATTENTION_OPSET}; "
            f"found opset = {opset}",
            *("convert", "opset"),
        )
    return OnnxSettings(opset, quantization)


def _opset(table: Mapping[str, Any]) -> int:
    opset = table.get("opset")
    if set(table) != {"opset"} or not isinstance(opset, int) or isinstance(opset, bool):
        raise TargetError(
            f"[convert] of an onnx target takes opset = NUMBER, found {dict(table)}",
            *("convert", next((key for key in table if key != "opset"), "opset")),
        )
    if opset not in OPSETS:
        raise TargetError(
            f"opset is {opset}; torch's exporter writes {OPSETS[0]} to {OPSETS[-1]}",
            *("convert", "opset"),
        )
    return opset


def _check_float(recipe: Recipe) -> None:
    """A recipe whose weights are stored in the type that they are computed in."""
    kinds = (recipe.weights, recipe.activations)
    if kinds not in PRECISIONS:
        raise TargetError(
            "an onnx recipe has float32 or float16 for both weights and activations, "
            f"found {' and '.join(kinds)}",
            "weights",
        )
    if recipe.quantize:
        raise TargetError(
            f"[quantize] is for compressed weights, but weights are {recipe.weights!r}",
            "quantize",
        )
    if recipe.keep_float32 and recipe.weights == "float32":
        raise TargetError(
            "keep_float32 is for float16 recipes, but weights are 'float32'", "keep_float32"
        )
