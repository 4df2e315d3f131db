"""`manifest.json`: what every file of a bundle is. Written once, read into a typed `Bundle`.

Nothing outside this module reads or writes the JSON, but for `staging`, which only needs the names
of the files.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.load import load_graph, load_predictor
from mobilesam_export.bundle.procedure import limits, procedure
from mobilesam_export.bundle.staging import MANIFEST, PROJECT
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.contract import Contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import BackendError, BundleError, TargetError, UsageError
from mobilesam_export.files import file_sha256, write_text
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe, Runtime, Tolerance
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status

# 2: words of `form`, exceptions as module paths, range folding, golden of two images, limits and
# procedure as data.
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle, as it was written.

    Attributes:
        sha256: of its bytes, in hexadecimal.
        bytes: how many.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files are as they were exported.

    Attributes:
        folder: where it is.
        target: name of the target.
        backend: name of the backend of its files.
        recipe_name: of the target's recipe.
        recipe: as it was at the export.
        contract: names, shapes and types of the tensors of both files.
        convert: options of the backend, as the target and the recipe gave them.
        provenance: of the weights.
        versions: of the tools that made the files, by package.
        status: of the verification at the export.
        logits_limit: the largest error of a mask logit, absolute.
        exponents: of range folding, by what was scaled; see `graphs.ranges`.
        files: every file but the manifest, by its path in the folder, with "/".
    """

    folder: Path
    target: str
    backend: str
    recipe_name: str
    recipe: Recipe
    contract: Contract
    convert: Mapping[str, Any]
    provenance: Provenance
    versions: Mapping[str, str]
    status: Status
    logits_limit: float
    exponents: Mapping[str, int]
    files: Mapping[str, FileEntry]

    @property
    def graph_files(self) -> Mapping[str, FileEntry]:
        """Those of the contract's graphs: one file each, or the files of one folder each."""
        starts = tuple(f"{spec.name}." for spec in self.contract.graphs)
        return {name: entry for name, entry in self.files.items() if name.startswith(starts)}

    def why_not_run(self) -> str:
        """Why its files cannot be run here, with what to do; "" if they can."""
        return get_backend(self.backend).why_not_run(self.convert)

    def session(self, graph: str, device: str = "", threads: int = 0) -> Session:
        """One of the files, loaded afresh.

        Args:
            graph: "encoder", "decoder", or the name of another file if there is one.
            device: where to run it, such as "cpu" or "cuda"; "" for the backend's first.
            threads: CPU threads of one run, 0 for the runtime's own choice.

        Raises:
            BackendError: it cannot be loaded, or there is no such device here.
        """
        spec = getattr(self.contract, graph)
        return load_graph(self.folder, get_backend(self.backend), spec, device, threads)

    def predictor(self, device: str = "", threads: int = 0, *, batch: bool = False) -> Predictor:
        """The files, ready to answer prompts; arguments as of `session`.

        `batch`: and `decoder_batch`, if there is one.

        Raises:
            BackendError: files of this kind cannot be run here, or not on that device.
        """
        backend = get_backend(self.backend)
        if reason := self.why_not_run():
            raise BackendError(f"cannot run {self.folder}: {reason}")
        return load_predictor(self.folder, backend, self.contract, device, threads, batch=batch)


def write_manifest(stage: Path, contents: Contents) -> None:
    """List every file of a finished stage, and say what they are."""
    paths = sorted(path for path in stage.rglob("*") if path.is_file())
    entries = {
        path.relative_to(stage).as_posix(): FileEntry(file_sha256(path), path.stat().st_size)
        for path in paths
    }
    manifest = _as_dict(contents) | {"files": {n: asdict(entry) for n, entry in entries.items()}}
    (stage / MANIFEST).write_text(_json(manifest), encoding="utf-8")


def _as_dict(contents: Contents) -> dict[str, Any]:
    contract, provenance = contents.contract, contents.checkpoint.provenance
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": PROJECT,
        "target": contents.target.name,
        "backend": contents.target.backend,
        "convert": dict(contents.convert),
        "recipe": {"name": contents.recipe_name, **asdict(contents.recipe)},
        "contract": {
            "image_size": contract.image_size,
            **_rectangle(contract),
            "points": None if contract.dynamic else contract.points,
            "form": asdict(contract.form),
            **({"prompt_sets": contract.sets} if contract.sets else {}),
            **{spec.name: asdict(spec) for spec in contract.graphs},
            **procedure(contract),
        },
        "limits": limits(contract, contents.recipe.tolerance, contents.logits_spread),
        "checkpoint": asdict(provenance),
        "license": provenance.license,
        "steps": {name: dict(found) for name, found in contents.steps.items()},
        "range_folding": dict(contents.exponents),
        "calibration": None if contents.calibration is None else contents.calibration.describe(),
        "fit": None if contents.fit is None else dict(contents.fit),
        "recovery": None if contents.recovery is None else dict(contents.recovery),
        "versions": dict(contents.versions),
        "verification": contents.report.as_dict(),
    }


def _rectangle(contract: Contract) -> dict[str, Any]:
    """Of inputs that are no square."""
    return {"rectangle": asdict(contract.frame)} if contract.frame else {}


def record_arm(opened: Bundle, reports: Mapping[str, Report]) -> None:
    """Keep what ARM builds made of a bundle's files beside what was found at the export.

    They go into the manifest, the one file of a bundle that has no hash, as `verification.arm`; a
    bundle without it was not run there.

    Args:
        opened: the bundle.
        reports: by the processor that was emulated; those of earlier runs are replaced.

    Raises:
        BundleError: another export has replaced the bundle. OutputError: it cannot be written.
    """
    manifest = read_manifest(opened.folder)
    if manifest["files"] != {name: asdict(entry) for name, entry in opened.files.items()}:
        raise BundleError(f"{opened.folder} was exported again meanwhile; verify it again")
    arm = {model: report.as_dict() for model, report in reports.items()}
    manifest["verification"] = {**manifest["verification"], "arm": arm}
    write_text(opened.folder / MANIFEST, _json(manifest))


def _json(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, allow_nan=False) + "\n"


def open_bundle(folder: Path | str, warn: Callable[[str], None] | None = None) -> Bundle:
    """Read a bundle's manifest and check every file's hash.

    Args:
        folder: the bundle.
        warn: is told of files other than the encoder and the decoder that are not as written, in
            place of an error.

    Raises:
        BundleError: it is no bundle, of a newer version, or its files are not as written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        opened = _from_dict(folder, manifest)
        get_backend(opened.backend)
        _check_graphs(folder, opened)
        models = opened.graph_files
        for name, expected in opened.files.items():
            if not (problem := _problem(folder, name, expected)):
                continue
            if warn is None or name in models:
                raise BundleError(f"{folder} is damaged: {problem}; export again")
            warn(f"{folder}: {problem}")
    except (KeyError, TypeError, ValueError, AttributeError, TargetError, UsageError) as exc:
        what = f"{type(exc).__name__}: {exc}"
        raise BundleError(f"{folder / MANIFEST} is not a bundle's manifest ({what})") from exc
    return opened


def _from_dict(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has manifest version {manifest['schema_version']}; "
            f"this {PROJECT} reads version {SCHEMA_VERSION}: export again or upgrade"
        )
    contract, recipe = _contract(manifest["contract"]), dict(manifest["recipe"])
    answering = manifest["limits"][contract.answering.name]
    return Bundle(
        folder=folder,
        target=manifest["target"],
        backend=manifest["backend"],
        recipe_name=recipe.pop("name"),
        recipe=_recipe(recipe),
        contract=contract,
        convert=dict(manifest["convert"]),
        provenance=Provenance(**manifest["checkpoint"]),
        versions=dict(manifest["versions"]),
        status=Status(manifest["verification"]["status"]),
        logits_limit=float(answering["logits_max_abs"]),
        exponents={name: int(value) for name, value in manifest["range_folding"].items()},
        files={name: FileEntry(**entry) for name, entry in manifest["files"].items()},
    )


def _contract(table: Mapping[str, Any]) -> Contract:
    return Contract(
        table["image_size"],
        table["points"] or 0,
        GraphForm(**table["form"]),
        table.get("prompt_sets", 0),
        split="prepare" in table,
        frame=Frame(**table["rectangle"]) if "rectangle" in table else None,
    )


def _recipe(table: Mapping[str, Any]) -> Recipe:
    """JSON has no tuples and no dataclasses."""
    tolerance, keep = Tolerance(**table["tolerance"]), tuple(table["keep_float32"])
    runtime = table.get("runtime")
    made = {
        "tolerance": tolerance,
        "keep_float32": keep,
        "runtime": None if runtime is None else Runtime(**runtime),
    }
    return Recipe(**{**table, **made})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The JSON as it stands, for those that compare or show all of it; else use `open_bundle`.

    Raises:
        BundleError: there is none, or another program wrote it.
    """
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


def _check_graphs(folder: Path, opened: Bundle) -> None:
    listed = {name.partition(".")[0] for name in opened.files}
    if missing := sorted({spec.name for spec in opened.contract.graphs} - listed):
        raise BundleError(
            f"{folder / MANIFEST} is not a bundle's manifest: it lists no {missing[0]}"
        )


def _problem(folder: Path, name: str, expected: FileEntry) -> str:
    """What is wrong with a listed file; "" if nothing is."""
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != expected.bytes or file_sha256(path) != expected.sha256:
        return f"{name} is not the file that was exported (its SHA-256 differs)"
    return ""
