"""A recipe with some layers raised in precision, and the TOML that says so."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mobilesam_export.target.recipe import Recipe
from mobilesam_export.target.target import Target

HEADER = """# {target} with the recipe {recipe}, fitted by mobilesam-export: weights with SHA-256
# {weights}
# made some layers need more bits. Export with it by `mobilesam-export run FILE`.
"""


def raised(recipe: Recipe, groups: Mapping[str, Sequence[str]], stored: str) -> Recipe:
    """The recipe with more exceptions.

    Args:
        recipe: with compressed weights.
        groups: for "encoder" and "decoder", patterns of weights that are not to be compressed.
        stored: the exception that says so, see `Backend.raised_types`.
    """
    return replace(recipe, exceptions=_with_exceptions(recipe.exceptions, groups, stored))


def fitted_toml(target: Target, name: str, recipe: Recipe, weights: str) -> str:
    """The target's file with one recipe, raised; exports by it give the same bytes.

    Args:
        target: from a file.
        name: of the recipe in it.
        recipe: raised.
        weights: SHA-256 of the weights that it was fitted to.
    """
    import tomli_w

    table = tomllib.loads(target.source.text)
    written = table["recipe"][name]
    written["inherit_exceptions"] = False
    written["exceptions"] = {graph: dict(found) for graph, found in recipe.exceptions.items()}
    written["fitted_to"] = weights
    if recipe.tolerance.mean_mask_iou:
        written["tolerance"]["mean_mask_iou"] = recipe.tolerance.mean_mask_iou
    table.pop("exceptions", None)
    table["recipe"] = {name: written}
    table["default_recipe"] = name
    header = HEADER.format(target=target.name, recipe=name, weights=weights)
    return header + tomli_w.dumps(table)


def _with_exceptions(
    exceptions: Mapping[str, Any], groups: Mapping[str, Sequence[str]], stored: str
) -> dict[str, Any]:
    return {
        graph: {**exceptions.get(graph, {}), **dict.fromkeys(groups.get(graph, ()), stored)}
        for graph in {**exceptions, **groups}
        if graph in exceptions or groups[graph]
    }
