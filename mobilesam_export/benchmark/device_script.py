"""A bundle -> a folder that a person runs on a real device, and whose results come back.

Android: a shell script with adb and LiteRT's benchmark_model. Apple: a Swift package whose XCTest
measures every compute unit. `device_results` reads what they write.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.errors import OutputError, UsageError

PREFIX = "@"
# What Swift packages call the systems that a minimum deployment target belongs to.
SYSTEMS = {"iOS16": ("16", "13"), "iOS17": ("17", "14"), "iOS18": ("18", "15")}


def write_device_script(opened: Bundle, folder: Path) -> list[Path]:
    """Write the folder for the bundle's platform, whole or not at all.

    Args:
        opened: a `tflite` or `coreml` bundle.
        folder: must not exist yet, or be empty.

    Returns:
        The files, relative to the folder.

    Raises:
        UsageError: no device runs files of this backend this way, or the folder is not empty.
        OutputError: it cannot be written.
    """
    if opened.backend not in WRITERS:
        raise UsageError(
            f"{opened.folder} is an {opened.target} bundle; a device script is for "
            f"{' or '.join(WRITERS)} bundles"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; name a new folder with --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as parent:
            stage = Path(parent, "stage")
            stage.mkdir()
            WRITERS[opened.backend](opened, stage)
            if folder.exists():
                folder.rmdir()
            stage.rename(folder)
    except OSError as exc:
        raise OutputError(f"cannot write {folder}: {exc.strerror or exc}") from exc
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _android(opened: Bundle, stage: Path) -> None:
    values = {"SUBJECT": opened.folder.resolve().name}
    _fill("android-run.sh", values, stage / "run.sh")
    _fill("android-README.md", values, stage / "README.md")
    for graph in ("encoder", "decoder"):
        shutil.copyfile(opened.folder / f"{graph}.tflite", stage / f"{graph}.tflite")


def _apple(opened: Bundle, stage: Path) -> None:
    ios, macos = SYSTEMS[opened.manifest["convert"]["minimum_deployment_target"]]
    values = {
        "SUBJECT": opened.folder.resolve().name,
        "IOS": ios,
        "MACOS": macos,
        "SIDE": str(opened.contract.image_size),
        "POINTS": str(opened.contract.points),
        "PSNR": f"{opened.tolerance.embedding_psnr_db:.1f}",
        "LOGITS": f"{opened.tolerance.logits_max_abs_error:.6f}",
    }
    tests = stage / "Tests"
    (tests / "Models").mkdir(parents=True)
    _fill("apple-Package.swift", values, stage / "Package.swift")
    _fill("apple-LatencyTests.swift", values, tests / "LatencyTests.swift")
    _fill("apple-run.sh", values, stage / "run.sh")
    _fill("apple-README.md", values, stage / "README.md")
    for graph in ("encoder", "decoder"):
        name = f"{graph}.mlpackage"
        shutil.copytree(opened.folder / name, tests / "Models" / name)
    golden = opened.folder / "golden"
    (tests / "Golden" / "click").mkdir(parents=True)
    for name in ("image.uint8", "image_embeddings.float32"):
        shutil.copyfile(golden / name, tests / "Golden" / name)
    for path in (golden / "click").glob("*.float32"):
        shutil.copyfile(path, tests / "Golden" / "click" / path.name)


def _fill(template: str, values: Mapping[str, str], path: Path) -> None:
    source = resources.files("mobilesam_export.benchmark") / "templates" / template
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{PREFIX}{name}{PREFIX}", value)
    path.write_text(text, encoding="utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)


WRITERS: Mapping[str, Callable[[Bundle, Path], None]] = {"tflite": _android, "coreml": _apple}
