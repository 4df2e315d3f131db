"""Targets: `targets/*.toml` or a user's own file -> frozen dataclasses.

A target says which backend writes the files, in which export form, and with which recipes.
"""

from importlib import resources
from pathlib import Path

from mobilesam_export.errors import TargetError
from mobilesam_export.target.form import GELUS, GraphForm
from mobilesam_export.target.parsing import parse_target
from mobilesam_export.target.recipe import GRAPHS, Recipe, Runtime, Tolerance
from mobilesam_export.target.target import Target

__all__ = [
    "GELUS",
    "GRAPHS",
    "GraphForm",
    "Recipe",
    "Runtime",
    "Target",
    "Tolerance",
    "builtin_targets",
    "load_target",
    "parse_target",
]


def builtin_targets() -> list[str]:
    """Names of the targets that come with the package, sorted."""
    folder = resources.files("mobilesam_export.targets")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_target(name: str) -> Target:
    """Read a target by name, or from the path of a user's own `.toml`.

    Raises:
        TargetError: no such target; not TOML; a key is unknown, missing or of a wrong value.
    """
    if name in builtin_targets():
        source = resources.files("mobilesam_export.targets") / f"{name}.toml"
        return parse_target(name, source.read_text(encoding="utf-8"), f"targets/{name}.toml")
    path = Path(name)
    if path.suffix != ".toml":
        names = ", ".join(builtin_targets())
        raise TargetError(f"no target {name!r}; there are: {names}, or a path to a .toml file")
    try:
        return parse_target(path.stem, path.read_text(encoding="utf-8"), str(path))
    except OSError as exc:
        raise TargetError(f"cannot read target {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise TargetError(f"cannot read target {path}: not UTF-8 text") from exc
