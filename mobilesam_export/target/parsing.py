"""TOML text -> a `Target`. Errors name the file and the line; unknown keys are errors."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, NamedTuple, TypeVar, get_origin, get_type_hints

from mobilesam_export.errors import TargetError
from mobilesam_export.target.form import GraphForm
from mobilesam_export.target.recipe import COMPRESSED, Recipe, Runtime, Tolerance, check_exceptions
from mobilesam_export.target.source import Source
from mobilesam_export.target.target import Target
from mobilesam_export.target.words import check_choice, dotted, shown

Table = TypeVar("Table")

# Old keys of [graph], which users' files may have -> today's, with their values' translation.
RENAMED: Mapping[str, tuple[str, Mapping[object, object]]] = {
    "pixels": ("image_input", {}),
    "strips": ("row_tiles", {}),
    "hidden": ("mlp_chunks", {"whole": False, "parts": True}),
}
# Keys that are gone, as their values cannot be translated -> what to do.
GONE: Mapping[str, str] = {
    "logits_max_abs_error": "use logits_error, in standard deviations of PyTorch's logits"
}
NOT_IN_A_FILE = ("name", "recipes", "source")  # fields of Target that are no keys
BYTE_ORDER_MARK = "\ufeff"  # which editors on Windows put in front
INHERIT = "inherit_exceptions"


class Place(NamedTuple):
    """A table of a file, by its keys from the outermost table inwards."""

    source: Source
    keys: tuple[str, ...] = ()

    def child(self, key: str) -> "Place":
        """Something in this table."""
        return Place(self.source, (*self.keys, key))

    def error(self, message: str, *keys: str) -> TargetError:
        """The error of something in this table, with file, line and table."""
        table = dotted(self.keys)
        return self.source.error(f"[{table}] {message}" if table else message, self.keys + keys)


def parse_target(name: str, text: str, file: str = "") -> Target:
    """Parse one target file.

    Args:
        name: of the target.
        text: TOML.
        file: the file's name for messages; "" for NAME.toml.

    Raises:
        TargetError: it is not TOML; a key is unknown, missing or of a wrong value.
    """
    file = file or f"{name}.toml"
    text = text.removeprefix(BYTE_ORDER_MARK)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # ValueError: also of numbers that are too long
        raise TargetError(f"{file}: not valid TOML: {exc}") from exc
    place = Place(Source(file, text))
    recipes = table.pop("recipe", {})
    if not isinstance(recipes, dict) or not recipes:
        raise place.error("needs at least one [recipe.NAME] table", "recipe")
    for key in NOT_IN_A_FILE:
        if key in table:
            raise place.error(f"unknown key {key!r}; recipes are [recipe.NAME] tables", key)
    shared = _shared_exceptions(table, place)
    _rename(table.get("graph"), place.child("graph"))
    parsed_recipes = {
        key: _recipe(value, shared, place.child("recipe").child(key))
        for key, value in recipes.items()
    }
    defaults = {"name": name, "recipes": parsed_recipes, "source": place.source}
    target = _parse(Target, {**defaults, **table}, place)
    try:
        check_choice("default_recipe", target.default_recipe, recipes)
    except TargetError as exc:
        raise place.error(str(exc), "default_recipe") from exc
    return target


def _shared_exceptions(table: dict[str, Any], place: Place) -> Mapping[str, Any]:
    """Take the target's own [exceptions] out of its table."""
    shared = table.pop("exceptions", {})
    if not isinstance(shared, dict):
        raise place.error(f"exceptions: expected a table, found {shown(shared)}", "exceptions")
    try:
        check_exceptions(shared)
    except TargetError as exc:
        raise place.error(str(exc), *exc.keys) from exc
    return shared


def _recipe(table: object, shared: Mapping[str, Any], place: Place) -> Recipe:
    """A recipe with the target's exceptions, unless it leaves them out or compresses nothing."""
    if not isinstance(table, dict):
        raise place.error(f"expected a table, found {shown(table)}")
    table = dict(table)
    inherit = _value(bool, table.pop(INHERIT, True), place.child(INHERIT))
    exceptions = table.get("exceptions", {})
    if inherit and isinstance(exceptions, dict) and table.get("weights") in COMPRESSED:
        table["exceptions"] = {
            graph: _merged(shared.get(graph, {}), exceptions.get(graph, {}))
            for graph in {**shared, **exceptions}
        }
    return _parse(Recipe, table, place, INHERIT)


def _merged(shared: Mapping[str, Any], overrides: Any) -> Any:  # noqa: ANN401 a TOML value, not yet checked
    """Patterns of the target and the recipe; of equal patterns the recipe's counts."""
    if not isinstance(overrides, dict):
        return overrides
    return {key: value for key, value in shared.items() if key not in overrides} | overrides


def _rename(graph: object, place: Place) -> None:
    """Replace old words of a [graph] table by today's."""
    if not isinstance(graph, dict):
        return
    for old, (new, values) in RENAMED.items():
        if old not in graph:
            continue
        if new in graph:
            raise place.error(f"{old!r} is the old name of {new!r}; remove it", old)
        value = graph.pop(old)
        if values:
            try:
                check_choice(old, value, values)
            except TargetError as exc:
                raise place.error(str(exc), old) from exc
            value = values[value]
        graph[new] = value


def _parse(kind: type[Table], table: object, place: Place, *extra_keys: str) -> Table:
    """Build one dataclass from one TOML table and the tables in it.

    Args:
        kind: the dataclass.
        table: what the file has.
        place: of the table.
        extra_keys: keys that a file may have here beside the dataclass's fields.
    """
    if not isinstance(table, dict):
        raise place.error(f"{place.keys[-1]}: expected a table, found {shown(table)}")
    hints = get_type_hints(kind)
    keys = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    key_names = [*(name for name in keys if name not in NOT_IN_A_FILE), *extra_keys]
    if kind is Target:
        key_names += ["recipe", "exceptions"]
    for key in table:
        if key not in keys:
            known = GONE.get(key) or f"known keys: {', '.join(key_names)}"
            raise place.error(f"unknown key {key!r}; {known}", key)
    for key, info in keys.items():
        if key not in table and info.default is MISSING and info.default_factory is MISSING:
            raise place.error(f"missing key {key!r}")
    values = {key: _value(hints[key], item, place.child(key)) for key, item in table.items()}
    try:
        return kind(**values)
    except TargetError as exc:
        raise place.error(str(exc), *exc.keys) from exc


def _value(hint: Any, value: Any, place: Place) -> Any:  # noqa: ANN401 what a TOML holds
    """A value of a key, in its field's type."""
    if hint in (GraphForm, Tolerance):
        return _parse(hint, value, place)
    if hint == Runtime | None:
        return _parse(Runtime, value, place)
    if hint is float and type(value) is int and abs(value) < 1 << 53:  # what a float has exactly
        value = float(value)
    if expectation := _mismatch(hint, value):
        *table, key = place.keys
        raise Place(place.source, tuple(table)).error(
            f"{key}: expected {expectation}, found {shown(value)}", key
        )
    return tuple(value) if hint == tuple[str, ...] else value


def _mismatch(hint: Any, value: object) -> str:  # noqa: ANN401 a type
    """The expected type in words; "" if the value has it."""
    if hint == tuple[str, ...]:
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if strings else "a list of strings"
    if get_origin(hint) is Mapping:
        return "" if isinstance(value, dict) else "a table"
    names = {bool: "true or false", str: "str", float: "float", int: "int"}
    return "" if hint not in names or type(value) is hint else names[hint]
