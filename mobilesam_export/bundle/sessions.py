"""A bundle's files, ready to run."""

from pathlib import Path

from mobilesam_export.backends import Backend
from mobilesam_export.contract import Contract
from mobilesam_export.session import Session


def load_files(folder: Path, backend: Backend, contract: Contract) -> list[Session]:
    """Encoder and decoder of a bundle's folder on the backend's default device.

    Raises:
        BackendError: a file cannot be loaded. BundleError: it is damaged.
    """
    return [
        backend.load(folder / f"{spec.name}{backend.suffix}", spec)
        for spec in (contract.encoder, contract.decoder)
    ]
