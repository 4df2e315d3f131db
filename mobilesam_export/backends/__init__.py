"""Backends by name, found through the entry-point group GROUP; ours come in by the same door.

A package of anyone's adds one with, in its pyproject.toml:

    [project.entry-points."mobilesam_export.backends"]
    mine = "my_package:backend"     # an instance of a class derived from Backend

`reference` is PyTorch itself: it has no files and is no backend.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.protocol import Backend
from mobilesam_export.errors import BackendError, TargetError, first_line

__all__ = ["GROUP", "Backend", "Conversion", "Settings", "backend_names", "get_backend"]

GROUP = "mobilesam_export.backends"
MEMBERS = tuple(
    name
    for name in dict.fromkeys((*Backend.__annotations__, *vars(Backend)))
    if not name.startswith("_")
)


def backend_names() -> list[str]:
    """Names of all backends that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


@cache
def get_backend(name: str) -> Backend:
    """The backend of this name.

    Raises:
        TargetError: there is none, or two packages provide one.
        BackendError: it cannot be imported, or is no backend.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        known = ", ".join(backend_names()) or "none (install mobilesam-export with pip)"
        raise TargetError(f"no backend {name!r}; known: {known}")
    if len(found) > 1:
        packages = ", ".join(entry.dist.name if entry.dist else "?" for entry in found)
        raise TargetError(f"backend {name!r} comes from several packages: {packages}; keep one")
    return _load(found[0])


def _load(entry: EntryPoint) -> Backend:
    where = f"backend {entry.name!r} ({entry.value})"
    try:
        backend: Backend = entry.load()
    except Exception as exc:  # whatever importing it raises
        reason = f"{type(exc).__name__}: {first_line(exc)}"
        raise BackendError(f"{where} cannot be imported: {reason}; mend or uninstall it") from exc
    missing = [member for member in MEMBERS if not hasattr(backend, member)]
    if missing or isinstance(backend, type):
        lacks = f"lacks {', '.join(missing)}" if missing else "is a class, not an instance of one"
        raise BackendError(f"{where} {lacks}; derive it from {__name__}.Backend")
    return backend
