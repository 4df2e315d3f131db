"""A bundle -> a folder with a script for a real device, whose results `benchmark` imports.

The backend writes the folder; `device_results` reads the script's results.
"""

import tempfile
from pathlib import Path

from mobilesam_export.backends import get_backend
from mobilesam_export.backends.device import DeviceSubject
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.errors import OutputError, UsageError
from mobilesam_export.target import builtin_targets, load_target


def write_device_script(bundle: Bundle, folder: Path) -> list[Path]:
    """Write the folder for the bundle's platform, atomically.

    Args:
        bundle: a bundle whose backend has a device script.
        folder: must not exist yet, or be empty.

    Returns:
        The files, relative to the folder.

    Raises:
        UsageError: the backend has no device script, or the folder is not empty.
        OutputError: it cannot be written.
    """
    script = get_backend(bundle.backend).device_script()
    if script is None:
        raise UsageError(
            f"{bundle.folder} is an {bundle.target} bundle; a device script is for bundles of "
            f"{', '.join(_targets_with_script())}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; name a new folder with --out")
    subject = DeviceSubject(
        name=bundle.folder.resolve().name,
        folder=bundle.folder,
        contract=bundle.contract,
        tolerance=bundle.recipe.tolerance,
        logits_limit=bundle.logits_limit,
        convert=bundle.convert,
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as parent:
            stage = Path(parent, "stage")
            stage.mkdir()
            script.write(subject, stage)
            if folder.exists():
                folder.rmdir()
            stage.rename(folder)
    except OSError as exc:
        raise OutputError(f"cannot write {folder}: {exc.strerror or exc}") from exc
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _targets_with_script() -> list[str]:
    return [
        name
        for name in builtin_targets()
        if get_backend(load_target(name).backend).device_script() is not None
    ]
