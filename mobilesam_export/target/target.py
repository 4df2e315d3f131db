"""A target: which backend writes the files, in which export form, with which recipes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mobilesam_export.errors import TargetError
from mobilesam_export.target.form import GraphForm
from mobilesam_export.target.recipe import Recipe
from mobilesam_export.target.source import Source


@dataclass(frozen=True)
class Target:
    """One kind of file for one kind of runtime.

    Attributes:
        name: the file's stem, which is also the subcommand's name.
        description: one line for `--help` and the README.
        backend: name of a package in `mobilesam_export.backends`.
        default_recipe: name of the recipe used when none is given.
        graph: the export form.
        recipes: by name.
        convert: options of the backend, checked there.
        source: the file, for messages.
    """

    name: str
    description: str
    backend: str
    default_recipe: str
    graph: GraphForm
    recipes: Mapping[str, Recipe]
    convert: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default=Source(), compare=False, repr=False)

    def options(self, recipe: Recipe) -> dict[str, Any]:
        """The [convert] table with what one of the recipes changes in it."""
        return {**self.convert, **recipe.convert}

    def recipe(self, name: str | None) -> tuple[str, Recipe]:
        """Look up a recipe by name; None gives the default one.

        Raises:
            TargetError: there is none of that name.
        """
        name = name or self.default_recipe
        if name not in self.recipes:
            names = ", ".join(self.recipes)
            raise TargetError(f"target {self.name} has no recipe {name!r}; it has: {names}")
        return name, self.recipes[name]

    @contextmanager
    def locating(self, *table: str) -> Iterator[None]:
        """Add the file and the line to a TargetError that is raised within.

        The error's `keys` begin in this table, or in the target's own tables (convert, exceptions,
        graph) where this one has no such key.

        Args:
            table: keys of what is read, such as "recipe", NAME.
        """
        try:
            yield
        except TargetError as exc:
            full_keys = (*table, *exc.keys)
            in_target = self.source.has(exc.keys) and not self.source.has(full_keys)
            keys = exc.keys if in_target else full_keys
            label = f"recipe {table[1]}: " if table[0] == "recipe" else ""
            raise self.source.error(f"{label}{exc}", keys) from exc
