"""targets/README.md has every key and value of a target, and its example is one."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export import pipeline
from mobilesam_export.errors import TargetError
from mobilesam_export.target import (
    GraphForm,
    Recipe,
    Target,
    Tolerance,
    builtin_targets,
    load_target,
    parse_target,
)

TEXT = (Path(__file__).parents[1] / "targets" / "README.md").read_text()
EXAMPLE = TEXT.partition("```toml\n")[2].partition("```")[0]
NO_KEYS = {"name", "recipes", "source"}  # what a file does not say, or says by its tables' names
COMPRESSED = load_target("onnx").recipes["w8"]


def section(heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    rest = TEXT.partition(f"\n{heading}\n")[2]
    assert rest, heading
    return re.split(f"^#{{2,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def row(heading: str, key: str) -> str:
    """The line of a table that explains a key."""
    found = re.search(rf"^\| `{re.escape(key)}` \|.*$", section(heading), re.MULTILINE)
    assert found, f"{key} is not in {heading}"
    return found[0]


TABLES: dict[str, type] = {
    "## Keys of a target": Target,
    "### `[graph]`: the export form": GraphForm,
    "### `[recipe.NAME]`": Recipe,
    "### `[recipe.NAME.tolerance]`": Tolerance,
}


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_explained_and_no_other(heading: str) -> None:
    keys = {field.name for field in fields(TABLES[heading])} - NO_KEYS
    for key in keys:
        assert row(heading, key)
    text = section(heading).partition("\n### ")[0]
    listed = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    assert listed - {"recipe.NAME", "exceptions", "inherit_exceptions"} <= keys


def choices(table: Any) -> Iterator[tuple[str, list[str]]]:
    """Key and allowed values of every field that takes one of a few, by the error's own list."""
    for field in fields(table):
        bad = -1 if isinstance(getattr(table, field.name), int) else "?"
        if field.name == "exceptions":
            bad = {"encoder": {"*": "?"}}  # type: ignore[assignment]
        if isinstance(getattr(table, field.name), bool | tuple | Tolerance):
            continue
        try:
            replace(table, **{field.name: bad})
        except TargetError as exc:
            if allowed := re.search(r"expected one of: (.*)", str(exc)):
                yield field.name, allowed[1].split(", ")


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("### `[graph]`: the export form", load_target("onnx").graph),
        ("### `[recipe.NAME]`", COMPRESSED),
    ],
)
def test_every_value_is_named(heading: str, table: Any) -> None:
    found = dict(choices(table))
    assert len(found) >= 4
    for key, values in found.items():
        line = row(heading, key)
        for value in values:
            assert f'`"{value}"`' in line or f"`{value}`" in line, f"{key} = {value}"


def backend_keys(kind: str) -> set[tuple[str, str]]:
    """Backend and key of every option that our own targets set in [convert] or [quantize]."""
    found = set()
    for target in map(load_target, builtin_targets()):
        tables = [getattr(recipe, kind) for recipe in target.recipes.values()]
        tables += [target.convert] if kind == "convert" else []
        for table in tables:
            for key, value in table.items():
                inner = [f"{key}.{part}" for part in value] if isinstance(value, dict) else [key]
                found |= {(target.backend, name) for name in inner}
    return found


@pytest.mark.parametrize("kind", ["convert", "quantize"])
def test_options_of_backends_are_explained(kind: str) -> None:
    lines = [line for line in TEXT.splitlines() if f"| `{kind}` |" in line]
    named = {
        (backend, key)
        for line in lines
        for backend in re.findall(r"^\| `(\w+)` \|", line)
        for key in re.findall(r"`([\w.]+)`", line.split("|")[3])
    }
    assert backend_keys(kind) <= named


def test_the_example_is_a_target_that_can_be_exported(tmp_path: Path) -> None:
    job = pipeline.Job(parse_target("tablet", EXAMPLE), out=tmp_path / "bundle")
    assert pipeline.check(job).recipe_name == "small"
    assert set(tomllib.loads(EXAMPLE)) >= {"graph", "convert", "recipe"}
