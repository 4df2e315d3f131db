"""What the tables of a target have in common: checks of single values."""

from collections.abc import Iterable

from mobilesam_export.errors import TargetError


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
        raise TargetError(f"{what} is {value!r}; expected one of: {expected}", *keys)
