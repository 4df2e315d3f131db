"""A path -> the graphs in it: a bundle's encoder and decoder, or the one graph of a lone file."""

from pathlib import Path
from types import ModuleType

from mobilesam_export import backends
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.errors import BundleError
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.target import builtin_targets, load_target


def describe_path(path: Path) -> tuple[GraphDescription, ...]:
    """Describe a bundle, whose hashes are checked first, or one file.

    Raises:
        BundleError: it does not exist, is damaged, or neither a bundle nor such a file.
        BackendError: it holds what its backend does not read.
    """
    by_suffix = _backends_by_suffix()
    if path.suffix in by_suffix:
        if not path.exists():
            raise BundleError(f"{path} does not exist")
        return (by_suffix[path.suffix].describe(path),)
    if path.is_file():
        raise BundleError(
            f"{path} is neither a bundle nor a file that can be inspected; "
            f"expected a folder or {', '.join(sorted(by_suffix))}"
        )
    opened = open_bundle(path)
    backend = backends.get_backend(opened.backend)
    names = (opened.contract.encoder.name, opened.contract.decoder.name)
    return tuple(backend.describe(path / f"{name}{backend.SUFFIX}") for name in names)


def _backends_by_suffix() -> dict[str, ModuleType]:
    """Every backend that writes files, by the suffix of these."""
    names = {load_target(name).backend for name in builtin_targets()}
    return {backend.SUFFIX: backend for backend in map(backends.get_backend, names)}
