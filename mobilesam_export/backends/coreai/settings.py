"""What a target says to the Core AI backend, checked before any work and without its packages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.backends.conversion import Settings
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GraphForm, Recipe

SYSTEM = "minimum_os"  # the word of [convert]
SYSTEMS = ("27",)  # coreai.authoring.OSVersion; iOS and macOS have the same number
FORMS = (("uint8", "slots"), ("float32", "slots"), ("segmenter", "segmenter"))
PRECISIONS = (("float32", "float32"), ("float16", "float16"))
GRANULARITIES = {
    "int8": ("per_tensor", "per_channel"),
    **dict.fromkeys(("palette8", "palette6", "palette4"), ("per_tensor", "per_grouped_channel")),
}


@dataclass(frozen=True)
class CoreaiSettings(Settings):
    """What the Core AI backend has read.

    Attributes:
        minimum_os: the first version of iOS and macOS that takes the files.
    """

    minimum_os: str


def parse(recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> CoreaiSettings:
    """See `Backend.parse_recipe`."""
    system = _minimum_os(convert)
    if (form.image_input, form.prompt) not in FORMS:
        raise TargetError(
            'a coreai target has image_input = "uint8" or "float32" and prompt = "slots", or '
            f'"segmenter" for both, found {form.image_input!r} and {form.prompt!r}',
            *("graph", "image_input"),
        )
    if recipe.compressed and form.prompt == "segmenter":
        raise TargetError(
            'a recipe for prompt = "segmenter" has float32 or float16 weights, '
            f"found {recipe.weights}",
            "weights",
        )
    if recipe.compressed:
        _check_compressed(recipe)
    elif (recipe.weights, recipe.activations) not in PRECISIONS:
        _refuse_kinds(recipe)
    for key, value in (
        ("quantize", recipe.quantize),
        ("calibrate_weights", recipe.calibrate_weights),
    ):
        if value:
            raise TargetError(f"a coreai recipe has no {key}", key)
    _check_kept(recipe, form)
    return CoreaiSettings(system)


def _minimum_os(table: Mapping[str, Any]) -> str:
    if set(table) != {SYSTEM}:
        raise TargetError(
            f"[convert] of a coreai target takes {SYSTEM} = NUMBER, found {dict(table)}",
            *("convert", next((key for key in table if key != SYSTEM), SYSTEM)),
        )
    if table[SYSTEM] not in SYSTEMS:
        raise TargetError(
            f"{SYSTEM} is {table[SYSTEM]!r}; expected one of: {', '.join(map(repr, SYSTEMS))}",
            *("convert", SYSTEM),
        )
    return str(table[SYSTEM])


def _check_compressed(recipe: Recipe) -> None:
    if recipe.activations != "float16" or recipe.weights not in GRANULARITIES:
        _refuse_kinds(recipe)
    allowed = GRANULARITIES[recipe.weights]
    if recipe.granularity not in allowed:
        raise TargetError(
            f"{recipe.weights} weights of a coreai recipe are {' or '.join(allowed)}, "
            f"found {recipe.granularity!r}",
            "granularity",
        )
    palettes = {"float16", *(kind for kind in GRANULARITIES if kind.startswith("palette"))}
    stored = {"float16"} if recipe.weights == "int8" else palettes
    for graph, table in recipe.exceptions.items():
        for pattern, kind in table.items():
            if kind not in stored:
                raise TargetError(
                    f"exceptions of {recipe.weights} weights in a coreai recipe are "
                    f"{' or '.join(sorted(stored))}, found {kind}",
                    *("exceptions", graph, pattern),
                )


def _refuse_kinds(recipe: Recipe) -> None:
    raise TargetError(
        "a coreai recipe has float32 or float16 for both weights and activations, or int8 or "
        f"palette weights and float16 activations; found {recipe.weights} and {recipe.activations}",
        "weights",
    )


def _check_kept(recipe: Recipe, form: GraphForm) -> None:
    """Refuse words of keep_float32 that would keep nothing."""
    if not recipe.keep_float32:
        return
    if recipe.activations == "float32":
        raise TargetError(
            "keep_float32 is for float16 recipes, but activations are 'float32'", "keep_float32"
        )
    from mobilesam_export.graphs import names

    names.check_kept(recipe.keep_float32, form, layers=False)
