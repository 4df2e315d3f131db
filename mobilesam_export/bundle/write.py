"""Converted files -> a whole bundle: golden vectors, samples, README and manifest are added."""

from collections.abc import Sequence
from pathlib import Path

from mobilesam_export.bundle import golden, manifest, readme
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.samples import write_sample
from mobilesam_export.verification.cases import ImageCase


def write_contents(stage: Path, contents: Contents, cases: Sequence[ImageCase]) -> None:
    """Add golden vectors, samples, README and manifest to the converted files in `stage`."""
    golden.write(stage / "golden", cases, contents.contract)
    write_sample(stage, contents)
    graphs = readme.graph_files(stage, contents.target.backend)
    (stage / "README.md").write_text(readme.readme(contents, graphs), encoding="utf-8")
    manifest.write_manifest(stage, contents)
