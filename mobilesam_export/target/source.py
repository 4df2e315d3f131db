"""The text of a target file, and the lines of its keys."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mobilesam_export.errors import TargetError


@dataclass(frozen=True)
class Source:
    """A TOML file.

    Attributes:
        file: its name, for messages.
        text: its content, valid TOML.
    """

    file: str = ""
    text: str = ""

    def error(self, message: str, keys: Sequence[str]) -> TargetError:
        """The message with the file, and the line of a key or of the table that lacks it."""
        line = self.line(keys)
        place = f"{self.file}, line {line}" if line else self.file
        return TargetError(f"{place}: {message}" if place else message)

    def has(self, keys: Sequence[str]) -> bool:
        """Whether there is such a key; keys are given from the outermost table inwards."""
        return _depth(self.text, keys) == len(keys)

    def line(self, keys: Sequence[str]) -> int:
        """The line on which a key begins, from 1.

        Bisection over the first lines of the file, with the TOML parser itself. So strings,
        comments and keys of the same name in other tables cannot mislead.

        Returns:
            The line of the innermost table around a key that is not there; 0 if there is none.
        """
        depth = _depth(self.text, keys)
        if not depth:
            return 0
        lines = self.text.split("\n")
        before, after = 0, len(lines)  # so many lines do not have the key, so many do
        while after - before > 1:
            middle = (before + after) // 2
            if _depth(_statements(lines, middle), keys) < depth:
                before = middle
            else:
                after = middle
        return _statements(lines, after - 1).count("\n") + 1


def _depth(text: str, keys: Sequence[str]) -> int:
    """Number of keys, from the first on, that the text has."""
    value: Any = tomllib.loads(text)
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            return depth
        value = value[key]
    return len(keys)


def _statements(lines: Sequence[str], count: int) -> str:
    """The first `count` lines without a statement that continues after them."""
    while True:
        text = "".join(f"{line}\n" for line in lines[:count])
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            count -= 1
        else:
            return text
