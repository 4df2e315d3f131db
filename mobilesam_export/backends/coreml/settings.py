"""What a target says to the Core ML backend, checked before any work and without coremltools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GRAPHS, GraphForm, Recipe

SYSTEM = "minimum_deployment_target"  # the word of [convert]
DEPLOYMENT_TARGETS = ("iOS16", "iOS17", "iOS18")
PRECISIONS = (("float32", "float32"), ("float16", "float16"), ("int8", "int8"))
# First systems with the operations, from coremltools' opsets (coremltools.target).
ACTIVATIONS_SYSTEM = "iOS17"  # quantize, dequantize
GROUPS_SYSTEM = "iOS18"  # constexpr_lut_to_dense with a palette for each group of channels
SDPA_SYSTEM = "iOS18"  # scaled_dot_product_attention


@dataclass(frozen=True)
class CoremlSettings(Settings):
    """What the Core ML backend has read.

    Attributes:
        minimum_deployment_target: a name of `coremltools.target`.
        float_inputs: for a graph, patterns of weights whose convolutions keep float16 inputs where
            activations are int8.
    """

    minimum_deployment_target: str
    float_inputs: Mapping[str, Sequence[str]]


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> CoremlSettings:
    """See `Backend.parse_recipe`."""
    system = _deployment_target(convert)
    if form.prompt != "slots" or form.image_input != "image":
        raise TargetError(
            'a coreml target has image_input = "image" and prompt = "slots", '
            f"found {form.image_input!r} and {form.prompt!r}",
            *("graph", "image_input"),
        )
    _check_kinds(recipe)
    _check_unused(recipe)
    _check_operations(recipe.keep_float32)
    if recipe.compressed:
        _check_weights(recipe)
        _check_exceptions(recipe)
    float_inputs = parse_float_inputs(recipe.quantize)
    for needed, what, least in (
        (form.attention == "sdpa", 'attention = "sdpa"', SDPA_SYSTEM),
        (recipe.activations == "int8", 'activations = "int8"', ACTIVATIONS_SYSTEM),
        (recipe.group_size > 0, 'granularity = "per_grouped_channel"', GROUPS_SYSTEM),
    ):
        if needed:
            _check_system(what, least, system)
    return CoremlSettings(system, float_inputs)


def parse_float_inputs(table: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """By graph, patterns of the weights whose convolutions still take float16.

    Raises:
        TargetError: a recipe's `quantize` table has other keys or values.
    """
    unknown = set(table) - {"float_inputs"}
    chosen = table.get("float_inputs", {})
    if unknown or not isinstance(chosen, Mapping) or not set(chosen) <= set(GRAPHS):
        raise TargetError(
            "quantize of a coreml recipe takes float_inputs.encoder and float_inputs.decoder, "
            f"found {dict(table)}",
            *("quantize", next(iter(unknown), "float_inputs")),
        )
    for graph, patterns in chosen.items():
        if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
            raise TargetError(
                f"quantize, float_inputs: expected lists of patterns, found {chosen}",
                *("quantize", "float_inputs", graph),
            )
    return chosen


def _deployment_target(table: Mapping[str, Any]) -> str:
    if set(table) != {SYSTEM}:
        raise TargetError(
            f"[convert] of a coreml target takes {SYSTEM} = NAME, found {dict(table)}",
            *("convert", next((key for key in table if key != SYSTEM), SYSTEM)),
        )
    name = table[SYSTEM]
    if name not in DEPLOYMENT_TARGETS:
        raise TargetError(
            f"{SYSTEM} is {name!r}; expected one of: {', '.join(DEPLOYMENT_TARGETS)}",
            *("convert", SYSTEM),
        )
    return str(name)


def _check_system(what: str, least: str, found: str) -> None:
    if DEPLOYMENT_TARGETS.index(found) < DEPLOYMENT_TARGETS.index(least):
        raise TargetError(
            f'{what} needs {SYSTEM} = "{least}" or newer, found {found!r}', "convert", SYSTEM
        )


def _check_kinds(recipe: Recipe) -> None:
    kinds = (recipe.weights, recipe.activations)
    compressed = recipe.compressed and kinds[1] == "float16" and kinds[0] != "int4"
    if not compressed and kinds not in PRECISIONS:
        raise TargetError(
            "a coreml recipe has float32, float16 or int8 for both weights and activations, "
            f"or int8 or palette weights and float16 activations; found {' and '.join(kinds)}",
            "weights",
        )


def _check_unused(recipe: Recipe) -> None:
    """Refuse what would have no effect on a recipe of these kinds."""
    if recipe.keep_float32 and recipe.activations == "float32":
        raise TargetError(
            "keep_float32 is for float16 recipes, but activations are 'float32'", "keep_float32"
        )
    if recipe.quantize and recipe.activations != "int8":
        raise TargetError(
            f"quantize is for int8 activations, but activations are {recipe.activations!r}",
            "quantize",
        )
    one_scale = recipe.weights == "int8" and recipe.granularity == "per_tensor"
    if recipe.calibrate_weights and (one_scale or not recipe.compressed):
        raise TargetError(
            "calibrate_weights is for palettes and for int8 per_channel, not for "
            f"{recipe.weights} {recipe.granularity}".rstrip(),
            "calibrate_weights",
        )


def _check_operations(kinds: Sequence[str]) -> None:
    """Refuse words of keep_float32 that no ML Program has, which would keep nothing."""
    if not kinds:
        return
    from mobilesam_export.mil.ops import KERNELS  # the words; it imports torch

    for kind in kinds:
        if kind not in KERNELS:
            raise TargetError(
                f"keep_float32 names {kind!r}, which is no operation of ML Programs; "
                "for instance sin, cos and layer_norm are",
                "keep_float32",
            )


def _check_weights(recipe: Recipe) -> None:
    """Which granularities coremltools has for int8 weights and for palettes."""
    if recipe.weights == "int8" and recipe.granularity == "per_grouped_channel":
        raise TargetError(
            "int8 weights are per_tensor or per_channel in a coreml recipe", "granularity"
        )
    if recipe.weights != "int8" and recipe.granularity == "per_channel":
        raise TargetError(
            "palettes are per_tensor or per_grouped_channel in a coreml recipe", "granularity"
        )


def _check_exceptions(recipe: Recipe) -> None:
    for graph, table in recipe.exceptions.items():
        for pattern, weights in table.items():
            keys = ("exceptions", graph, pattern)
            if weights == "int8" and recipe.activations == "int8":
                continue  # stored so, and computed in float16
            if weights in ("float32", "int8"):
                raise TargetError(
                    f"exceptions of a coreml recipe are float16 or a palette, not {weights}", *keys
                )
            if recipe.weights == "int8" and weights != "float16":
                raise TargetError(
                    f"exceptions of int8 weights can be float16 only, not {weights}", *keys
                )
