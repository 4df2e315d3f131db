"""Converted files -> a whole bundle: golden vectors, samples, texts and manifest are added."""

from collections.abc import Sequence
from pathlib import Path

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle import golden, manifest, readme
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.samples import write_sample
from mobilesam_export.files import file_sha256
from mobilesam_export.verification.cases import ImageCase

SUMS = "SHA256SUMS"


def write_contents(stage: Path, contents: Contents, cases: Sequence[ImageCase]) -> None:
    """Add golden vectors, samples, README, LICENSE, hashes and manifest to the files in `stage`."""
    golden.write(stage / "golden", cases, contents.contract)
    write_sample(stage, contents)
    backend = get_backend(contents.target.backend)
    name = f"{contents.target.name}-{contents.recipe_name}"
    for file, text in backend.companions(contents.contract, name).items():
        (stage / file).write_text(text, encoding="utf-8")
    graphs = readme.graph_files(stage, contents.target.backend)
    (stage / "README.md").write_text(readme.readme(contents, graphs), encoding="utf-8")
    (stage / "LICENSE").write_text(readme.template("LICENSE"), encoding="utf-8")
    write_sums(stage)
    manifest.write_manifest(stage, contents)


def write_sums(stage: Path) -> None:
    """Write `SHA256SUMS` for `sha256sum -c`: every file that is there now.

    The manifest is not among them, because it lists this file's own hash.
    """
    paths = sorted(path for path in stage.rglob("*") if path.is_file())
    lines = [f"{file_sha256(path)}  {path.relative_to(stage).as_posix()}\n" for path in paths]
    (stage / SUMS).write_text("".join(lines), encoding="utf-8")
