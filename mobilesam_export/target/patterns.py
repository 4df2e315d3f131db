"""Patterns of module paths that select layers, the same for every backend.

A weight's name is that in the export form's `state_dict`, such as `stage2.blocks.0.fc1.weight`. A
pattern (`fnmatch`, upper and lower case differ) matches a weight if it matches this name or the
path of a module that holds it: `stem`, `stem.*`, `down[123]` and `stage?.blocks.*.fc1` are
patterns. Backends translate their own names of tensors into these paths, each in its module
`names`.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from mobilesam_export.errors import TargetError
from mobilesam_export.target.words import dotted

WILDCARD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")
MOST_LISTED = 12  # names in an error


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches the weight of this name."""
    names = path.split(".")
    return any(fnmatchcase(".".join(names[:end]), pattern) for end in range(1, len(names) + 1))


def matching(paths: Iterable[str], pattern: str) -> list[str]:
    """The weights that a pattern matches."""
    return [path for path in paths if matches(path, pattern)]


def stored_types(paths: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """The type in which each excepted weight is stored.

    If several patterns match a weight, the most specific one counts: the one with the most
    characters beside wildcards, and of equals the last one.

    Args:
        paths: by a backend's own name of each weight, the name in the export form.
        kinds: by pattern.

    Returns:
        By the backend's own name.
    """
    ordered = sorted(kinds, key=lambda pattern: len(WILDCARD.sub("", pattern)))
    return {
        name: kinds[pattern]
        for pattern in ordered
        for name, path in paths.items()
        if matches(path, pattern)
    }


def check(paths: Iterable[str], label: str, *keys: str) -> None:
    """Refuse a pattern that matches nothing.

    Args:
        paths: of all weights that it could mean.
        label: of the weights in messages, such as "weight of the encoder".
        keys: where the pattern stands, from the recipe's table on; the last is the pattern.

    Raises:
        TargetError: with the names of what there is.
    """
    paths, pattern = list(paths), keys[-1]
    if matching(paths, pattern):
        return
    names = list(dict.fromkeys(path.partition(".")[0] for path in paths))
    raise TargetError(
        f"{dotted(keys[:-1])}: {pattern!r} matches no {label}; such are in "
        f"{', '.join(names[:MOST_LISTED])}",
        *keys,
    )
