"""Packages that only some commands need: which are missing, and what to type to get them."""

import re
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from mobilesam_export.errors import MissingPackageError

PROJECT = "mobilesam-export"
EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
EVERYTHING = "all"


def why_missing(*modules: str, extra: str) -> str:
    """Which of these modules are not installed, and what to type; "" if all are there.

    Nothing is imported.

    Args:
        modules: top-level names, as in an import statement.
        extra: of this package that has them all.
    """
    missing = [module for module in modules if find_spec(module) is None]
    return _sentence(missing, extra) if missing else ""


def require(*modules: str, extra: str) -> None:
    """Refuse to begin what would fail halfway for want of a package; see `why_missing`.

    Raises:
        MissingPackageError: naming what to type.
    """
    if reason := why_missing(*modules, extra=extra):
        raise MissingPackageError(reason)


def why_not_importable(exc: ModuleNotFoundError) -> str:
    """The same for an import that has failed; "" if no extra of ours has that module."""
    module = (exc.name or "").partition(".")[0]
    extra = _extra_with(module)
    return _sentence([module], extra) if extra else ""


def _sentence(modules: list[str], extra: str) -> str:
    names, verb = ", ".join(modules), "is" if len(modules) == 1 else "are"
    return f'{names} {verb} not installed: pip install "{PROJECT}[{extra}]"'


def _extra_with(module: str) -> str:
    """The first extra in pyproject.toml that requires the distribution of a module."""
    try:
        requirements = requires(PROJECT) or []
    except PackageNotFoundError:
        return ""
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = EXTRA.search(requirement)
        if extra and extra[1] != EVERYTHING and _normalized(name) == _normalized(module):
            return extra[1]
    return ""


def _normalized(name: str) -> str:
    """A distribution's name as PyPI compares it; modules here are named like their packages."""
    return re.sub(r"[-_.]+", "-", name).lower()
