"""Checks of single values in a target's tables, and their form in messages."""

import re
from collections.abc import Iterable, Sequence

from mobilesam_export.errors import TargetError

MOST_SHOWN = 80  # characters of a value in a message
BARE_KEY = re.compile(r"[\w-]+")


def shown(value: object) -> str:
    """A value for a message, in one line."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def dotted(keys: Sequence[str]) -> str:
    """Keys as TOML has them in the head of a table."""
    return ".".join(key if BARE_KEY.fullmatch(key) else repr(key) for key in keys)


def check_choice(label: str, value: object, allowed: Iterable[object], *keys: str) -> None:
    """Refuse a value that is none of the allowed ones.

    Args:
        label: its name in the message.
        value: from a file.
        allowed: all that it may be.
        keys: its place, see `TargetError`.

    Raises:
        TargetError: it is another one.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        choices = ", ".join(map(str, allowed))
        raise TargetError(f"{label} is {shown(value)}; expected one of: {choices}", *keys)
