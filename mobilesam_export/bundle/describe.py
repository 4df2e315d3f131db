"""A path -> what is in its graphs: those of a bundle, or of a lone file."""

from pathlib import Path

from mobilesam_export.backends import Backend, backend_names, get_backend
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.errors import BundleError
from mobilesam_export.inspection.report import GraphReport, inspect_graph


def inspect_path(path: Path) -> tuple[GraphReport, ...]:
    """Inspect a bundle, whose hashes are checked first, or one file.

    Raises:
        BundleError: it does not exist, is damaged, or neither a bundle nor such a file.
        BackendError: it holds what its backend does not read.
    """
    backend, files = _files(path)
    return tuple(inspect_graph(backend.describe(f), backend.partitions(f)) for f in files)


def _files(path: Path) -> tuple[Backend, list[Path]]:
    """Who reads the file or files of a path."""
    by_suffix = {backend.suffix: backend for backend in map(get_backend, backend_names())}
    if path.suffix in by_suffix:
        if not path.exists():
            raise BundleError(f"{path} does not exist")
        return by_suffix[path.suffix], [path]
    if path.is_file():
        raise BundleError(
            f"{path} is neither a bundle nor a file that can be inspected; "
            f"expected a folder or {', '.join(sorted(by_suffix))}"
        )
    opened = open_bundle(path)
    backend = get_backend(opened.backend)
    return backend, [path / f"{spec.name}{backend.suffix}" for spec in opened.contract.graphs]
