"""What a target says to the ExecuTorch backend, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.backends.executorch.delegates import DELEGATES
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GraphForm, Recipe

FLOAT32, FLOAT16 = ("float32", "float32"), ("float16", "float16")
DYNAMIC = ("int8", "dynamic-int8")
# XNNPACK in ExecuTorch takes no GELU in float16; the other two have no dynamic products of ours.
KINDS = {
    "xnnpack": (FLOAT32, DYNAMIC),
    "vulkan": (FLOAT32, FLOAT16),
    "coreml": (FLOAT32, FLOAT16),
}
STORED = "float32"  # what exceptions of the dynamic recipe may say


@dataclass(frozen=True)
class ExecutorchSettings(Settings):
    """What the ExecuTorch backend has read.

    Attributes:
        delegate: a key of `DELEGATES`.
    """

    delegate: str


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> ExecutorchSettings:
    """See `Backend.parse_recipe`."""
    delegate = convert.get("delegate")
    if delegate not in DELEGATES or len(convert) > 1:
        raise TargetError(
            "[convert] of an executorch target has one key, delegate, one of "
            f"{', '.join(map(repr, DELEGATES))}; found {dict(convert)}",
            *("convert", next((key for key in convert if key != "delegate"), "delegate")),
        )
    if (form.layout, form.image_input, form.prompt) != ("channel-last", "uint8", "slots"):
        raise TargetError(
            'an executorch target has layout = "channel-last", image_input = "uint8" and prompt = '
            f'"slots", found {form.layout!r}, {form.image_input!r} and {form.prompt!r}',
            *("graph", "layout"),
        )
    kinds = recipe.weights, recipe.activations
    if kinds not in KINDS[delegate]:
        expected = " or ".join(" and ".join(item) for item in KINDS[delegate])
        raise TargetError(
            f"weights and activations of a recipe for the {DELEGATES[delegate].name} delegate are "
            f"{expected}; found {kinds[0]} and {kinds[1]}",
            "weights",
        )
    for key in ("keep_float32", "quantize", "calibrate_weights"):
        if getattr(recipe, key):
            raise TargetError(f"an executorch recipe has no {key}", key)
    if recipe.compressed:
        _check_compressed(recipe)
    return ExecutorchSettings(delegate)


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
