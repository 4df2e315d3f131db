"""One module for each runtime; the file's name is the name that targets use.

Every backend has the same members:

    SUFFIX                              of its files, with the dot
    unavailable() -> str                why files cannot be run here; "" if they can
    runner() -> str                     what runs files here
    versions() -> dict                  of the tools that write the files
    parse_options(table) -> Options     the target's [convert] table, checked
    convert(graph, conversion, path)    write one file
    devices() -> dict                   what can run files, the default first -> why not here, or ""
    load(path, spec, device="", threads=0) -> Session   make a file ready to run
    describe(path) -> GraphDescription  what is in a file, for `inspect`

`device` is a key of `devices()`, or "" for the default; `threads` is how many CPU threads one run
may use, or 0 for the runtime's own choice. A device that is not here raises BackendError.

`reference` is PyTorch itself: it has no files, only `load`.
"""

import importlib
import importlib.util
from types import ModuleType

from mobilesam_export.errors import TargetError


def get_backend(name: str) -> ModuleType:
    """The backend of this name.

    Raises:
        TargetError: there is no such backend.
    """
    if not name.isidentifier() or not importlib.util.find_spec(f"{__name__}.{name}.backend"):
        raise TargetError(f"no backend {name!r}; a backend is a module of {__name__}")
    module = importlib.import_module(f"{__name__}.{name}.backend")
    if not hasattr(module, "convert"):
        raise TargetError(f"backend {name!r} writes no files")
    return module
