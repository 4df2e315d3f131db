"""What the tables of a target have in common: checks of single values, and how they are shown."""

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


def check_choice(what: str, value: object, allowed: Iterable[object], *keys: str) -> None:
    """Refuse a value that is none of the allowed ones.

    Args:
        what: its name in the message.
        value: from a file.
        allowed: all that it may be.
        keys: its place, see `TargetError`.

    Raises:
        TargetError: it is another one.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        expected = ", ".join(map(str, allowed))
        raise TargetError(f"{what} is {shown(value)}; expected one of: {expected}", *keys)
