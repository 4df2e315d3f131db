"""Two manifests -> what has changed, each change classed by `rules`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mobilesam_export.contract import GRAPH_FILES
from mobilesam_export.diff.rules import ABSENT, Value, is_breaking, rule_of

# Compared by others: files by their content, and of the verification the figures.
APART = ("files", "verification", "schema_version")
OF_BACKEND = ("convert", "versions")  # keys that mean nothing for another backend
WHOLE = ("range_folding", "calibration")  # one change, however many entries differ


@dataclass(frozen=True)
class Change:
    """One difference between two bundles.

    Attributes:
        area: such as "contract", "runtime" or "masks".
        what: the place in the manifest, the file, or the figure.
        old, new: values; None where a bundle has none.
        breaking: whether an app that worked with the old bundle breaks.
        reason: why, or why not.
    """

    area: str
    what: str
    old: Value
    new: Value
    breaking: bool
    reason: str


def classed(place: str, old: Value, new: Value) -> Change:
    """A change with what the rule for its place says."""
    rule = rule_of(place)
    return Change(rule.area, place, old, new, is_breaking(rule, old, new), rule.reason)


def compare_manifests(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Everything that differs, those that break an app first; files by their names only."""
    same_backend = old["backend"] == new["backend"]
    left, right = (_comparable(manifest, same_backend) for manifest in (old, new))
    changes = [*_differences("", left, right), *_removed(old["files"], new["files"])]
    return tuple(sorted(changes, key=lambda change: not change.breaking))


def _comparable(manifest: Mapping[str, Any], same_backend: bool) -> dict[str, Any]:
    left_out = APART if same_backend else (*APART, *OF_BACKEND)
    kept = {key: value for key, value in manifest.items() if key not in left_out}
    return {**kept, "verification": {"status": manifest["verification"]["status"]}}


def _differences(place: str, old: Value, new: Value) -> Iterator[Change]:
    old, new = _by_name(old), _by_name(new)
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and place not in WHOLE:
        for key in dict.fromkeys((*old, *new)):
            inner = f"{place}.{key}".lstrip(".")
            yield from _differences(inner, old.get(key, ABSENT), new.get(key, ABSENT))
    else:
        yield classed(place, old, new)


def _by_name(value: Value) -> Value:
    """A list of tables that have names as one table, so that order and additions show as such."""
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        names = [item.get("name") for item in value]
        if None not in names and len({*names}) == len(names):
            return {name: item for name, item in zip(names, value, strict=True)}
    return value


def _removed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Graphs whose file or folder has another name."""
    left, right = ({name.partition("/")[0] for name in files} for files in (old, new))
    for name in sorted(left - right):
        if name.partition(".")[0] in GRAPH_FILES:
            yield classed(f"files.removed.{name}", name, ABSENT)
