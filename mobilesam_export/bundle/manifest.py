"""A bundle: the folder that is handed to an app developer, and how it comes to be there whole.

It is written beside its place and put there by one rename, so that whatever happens the place
holds the old bundle or the new one. The manifest says what every file is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam_export import __version__
from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import golden, readme
from mobilesam_export.bundle.staging import MANIFEST, PROJECT
from mobilesam_export.calibration import Calibration
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.errors import BundleError, TargetError, UsageError
from mobilesam_export.files import file_sha256
from mobilesam_export.target import GraphForm, Recipe, Target, Tolerance
from mobilesam_export.verification.cases import PictureCase
from mobilesam_export.verification.verify import Report

if TYPE_CHECKING:  # it imports torch
    from mobilesam_export.checkpoint.load import Checkpoint

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Contents:
    """What a bundle's manifest and README are written from."""

    target: Target
    recipe_name: str
    contract: Contract
    checkpoint: "Checkpoint"
    versions: Mapping[str, str]
    report: Report
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `manifest` is the whole file; the rest is what programs need of it."""

    folder: Path
    manifest: Mapping[str, Any]
    target: str
    backend: str
    recipe: str
    contract: Contract
    tolerance: Tolerance
    provenance: Provenance


def file_metadata(
    spec: GraphSpec, target: Target, recipe_name: str, checkpoint: "Checkpoint"
) -> dict[str, str]:
    """What is written inside each file, so that a lone file can be identified."""
    provenance = checkpoint.provenance
    part = {
        "encoder": "image encoder: run once per picture",
        "decoder": "prompt encoder and mask decoder: run once per prompt",
    }[spec.name]
    return {
        "description": f"MobileSAM {part}. Made by {PROJECT} {__version__}.",
        "author": f"{PROJECT} {__version__}; MobileSAM by Zhang et al., 2023 (arXiv:2306.14289)",
        "license": provenance.license,
        "version": __version__,
        "target": target.name,
        "recipe": recipe_name,
        **{f"checkpoint_{key}": value for key, value in provenance.describe().items()},
    }


def write_contents(stage: Path, contents: Contents, cases: Sequence[PictureCase]) -> None:
    """Add golden vectors, README and manifest to the converted files."""
    golden.write(stage / "golden", cases[0], contents.contract)
    manifest = _manifest(contents)
    (stage / "README.md").write_text(readme.readme(stage, manifest), encoding="utf-8")
    paths = sorted(path for path in stage.rglob("*") if path.is_file())
    manifest["files"] = {
        path.relative_to(stage).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in paths
    }
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    (stage / MANIFEST).write_text(text, encoding="utf-8")


def _manifest(contents: Contents) -> dict[str, Any]:
    target, contract = contents.target, contents.contract
    _, recipe = target.recipe(contents.recipe_name)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": PROJECT,
        "target": target.name,
        "backend": target.backend,
        "convert": {**target.convert, **recipe.convert},
        "recipe": {"name": contents.recipe_name, **asdict(recipe)},
        "contract": {
            "image_size": contract.image_size,
            "points": None if contract.dynamic else contract.points,
            "form": asdict(contract.form),
            "encoder": asdict(contract.encoder),
            "decoder": asdict(contract.decoder),
        },
        "checkpoint": asdict(contents.checkpoint.provenance),
        "license": contents.checkpoint.provenance.license,
        "calibration": None if contents.calibration is None else contents.calibration.describe(),
        "versions": dict(contents.versions),
        "verification": contents.report.as_dict(),
    }


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest and check every file's hash.

    Raises:
        BundleError: it is no bundle, of a newer version, or its files are not as written.
    """
    manifest = _read_manifest(folder)
    try:
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise BundleError(
                f"{folder} has manifest version {manifest['schema_version']}; "
                f"this {PROJECT} reads version {SCHEMA_VERSION}: export again or upgrade"
            )
        contract, recipe = manifest["contract"], dict(manifest["recipe"])
        name, tolerance = recipe.pop("name"), Tolerance(**recipe.pop("tolerance"))
        Recipe(**recipe, tolerance=tolerance)
        opened = Bundle(
            folder=folder,
            manifest=manifest,
            target=manifest["target"],
            backend=manifest["backend"],
            recipe=name,
            contract=Contract(
                contract["image_size"], contract["points"] or 0, GraphForm(**contract["form"])
            ),
            tolerance=tolerance,
            provenance=Provenance(**manifest["checkpoint"]),
        )
        get_backend(opened.backend)
        _check_files(folder, manifest["files"])
    except (KeyError, TypeError, AttributeError, TargetError, UsageError) as exc:
        what = f"{type(exc).__name__}: {exc}"
        raise BundleError(f"{folder / MANIFEST} is not a bundle's manifest ({what})") from exc
    return opened


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        problem = f"is not a bundle: it has no {MANIFEST}" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} {problem}") from exc
    except OSError as exc:
        raise BundleError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise BundleError(f"{path} is damaged: {exc}") from exc
    if not isinstance(manifest, dict) or manifest.get("tool") != PROJECT:
        raise BundleError(f"{path} was not written by {PROJECT}")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    listed = {name.partition(".")[0] for name in files}
    if missing := sorted({"encoder", "decoder"} - listed):
        raise BundleError(
            f"{folder / MANIFEST} is not a bundle's manifest: it lists no {missing[0]}"
        )
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder} is damaged: {name} is missing; export again")
        if path.stat().st_size != expected["bytes"] or file_sha256(path) != expected["sha256"]:
            raise BundleError(
                f"{folder} is damaged: {name} is not the file that was exported "
                "(its SHA-256 differs); export again"
            )
