"""What a target says to the TFLite backend, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.backends.tflite import quantize
from mobilesam_export.backends.tflite.int8 import Quantization
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GRAPHS, GraphForm, Recipe

IMAGE_INPUTS = ("uint8", "float32")


@dataclass(frozen=True)
class TfliteSettings(Settings):
    """What the TFLite backend has read.

    Attributes:
        quantization: for "encoder" and "decoder", how weights and activations are stored.
    """

    quantization: Mapping[str, Quantization]


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> TfliteSettings:
    """See `Backend.parse_recipe`."""
    if convert:  # the graph's form is all that a tflite target chooses
        raise TargetError(
            f"[convert] of a tflite target takes no keys, found {dict(convert)}",
            *("convert", next(iter(convert))),
        )
    if form.prompt != "slots" or form.image_input not in IMAGE_INPUTS:
        raise TargetError(
            'a tflite target has image_input = "uint8" or "float32" and prompt = "slots", '
            f"found {form.image_input!r} and {form.prompt!r}",
            *("graph", "image_input"),
        )
    if (form.layout == "batch-one") != (form.image_input == "float32"):
        raise TargetError(
            'layout = "batch-one" is for GPU delegates, which take image_input = "float32", and '
            'other layouts are for CPUs and image_input = "uint8"; found '
            f"{form.layout!r} and {form.image_input!r}",
            *("graph", "layout"),
        )
    if recipe.keep_float32:
        raise TargetError("a tflite recipe has no keep_float32; use exceptions", "keep_float32")
    if recipe.calibrate_weights and recipe.weights != "int8":
        raise TargetError(
            f"calibrate_weights is for int8 weights, not for {recipe.weights}", "calibrate_weights"
        )
    return TfliteSettings({graph: quantize.parse(recipe, graph) for graph in GRAPHS})
