"""Figures and their limits -> what is broken, in words."""

from collections.abc import Iterable, Iterator


def broken(
    where: str,
    errors: Iterable[tuple[str, float, float]],
    shares: Iterable[tuple[str, float, float]],
) -> Iterator[str]:
    """What an answer breaks; written so that NaN breaks every limit.

    Args:
        where: what was asked.
        errors: names, with what was found and the most that may be.
        shares: names, with what was found and the least that may be, 0 to 1.
    """
    for what, found, most in errors:
        if not found <= most:
            yield f"{where}: {what} {found:.2g} off, expected <= {most:.2g}"
    for what, found, least in shares:
        if not found >= least:
            yield f"{where}: {what} {found:.4f}, expected >= {least:g}"
