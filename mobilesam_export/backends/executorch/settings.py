"""What a target says to the ExecuTorch backend, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GraphForm, Recipe

DYNAMIC = ("int8", "dynamic-int8")
STORED = "float32"  # what exceptions of the dynamic recipe may say


@dataclass(frozen=True)
class ExecutorchSettings(Settings):
    """What the ExecuTorch backend has read: nothing that the recipe does not say itself."""


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> ExecutorchSettings:
    """See `Backend.parse_recipe`."""
    if convert:
        raise TargetError(
            f"[convert] of an executorch target takes no keys, found {dict(convert)}",
            *("convert", next(iter(convert))),
        )
    if (form.layout, form.image_input, form.prompt) != ("channel-last", "uint8", "slots"):
        raise TargetError(
            'an executorch target has layout = "channel-last", image_input = "uint8" and prompt = '
            f'"slots", found {form.layout!r}, {form.image_input!r} and {form.prompt!r}',
            *("graph", "layout"),
        )
    kinds = recipe.weights, recipe.activations
    if kinds not in (("float32", "float32"), DYNAMIC):
        raise TargetError(
            "an executorch recipe has float32 weights and activations, or int8 and dynamic-int8 "
            f"(its XNNPACK takes no float16 GELU and no float16 weights); found {kinds[0]} and "
            f"{kinds[1]}",
            "weights",
        )
    for key in ("keep_float32", "quantize", "calibrate_weights"):
        if getattr(recipe, key):
            raise TargetError(f"an executorch recipe has no {key}", key)
    if recipe.compressed:
        _check_compressed(recipe)
    return ExecutorchSettings()


def _check_compressed(recipe: Recipe) -> None:
    if recipe.granularity != "per_channel":
        raise TargetError(
            f"int8 weights of an executorch recipe are per_channel, found {recipe.granularity!r}",
            "granularity",
        )
    for graph, table in recipe.exceptions.items():
        for pattern, kind in table.items():
            if kind != STORED:
                raise TargetError(
                    f"exceptions of an executorch recipe are {STORED}, found {kind}",
                    *("exceptions", graph, pattern),
                )
