"""The manifest is read back as what it was written from, without a dictionary in between."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.backends import get_backend
from mobilesam_export.bundle.contents import Contents
from mobilesam_export.bundle.manifest import FileEntry, open_bundle, write_manifest
from mobilesam_export.checkpoint.load import Checkpoint
from mobilesam_export.checkpoint.provenance import Provenance
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError
from mobilesam_export.target import GRAPHS, builtin_targets, load_target
from mobilesam_export.verification.report import unverified
from mobilesam_export.verification.status import Status

PROVENANCE = Provenance("demo", "", "0" * 64, "Apache-2.0", trained=True)
VERSIONS = {"mobilesam-export": "0.1.0", "torch": "2.13.0"}


def contents(target_name: str, recipe: str | None = None, **sizes: int) -> Contents:
    target = load_target(target_name)
    size, points = sizes.get("image_size", 256), sizes.get("points", 6)
    contract = Contract(size, points, target.graph)
    checkpoint = Checkpoint({}, PROVENANCE)
    name, _ = target.recipe(recipe)
    return Contents(target, name, contract, checkpoint, VERSIONS, unverified("not asked"), 1.0)


def stage(folder: Path, **files: Any) -> Path:
    """A folder with an encoder and a decoder, and other files by name."""
    for name, content in {**{f"{g}.bin": g.encode() for g in GRAPHS}, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("target_name", builtin_targets())
def test_every_recipe_is_read_as_it_was_written(target_name: str, tmp_path: Path) -> None:
    for name, recipe in load_target(target_name).recipes.items():
        written = contents(target_name, name)
        graphs = {f"{spec.name}.bin": b"a graph" for spec in written.contract.graphs}
        folder = stage(tmp_path / name, **graphs)
        write_manifest(folder, written)
        opened = open_bundle(folder)
        assert (opened.recipe_name, opened.recipe) == (name, recipe)
        assert (opened.target, opened.backend) == (target_name, written.target.backend)
        assert opened.convert == written.convert
        assert (opened.provenance, opened.versions) == (PROVENANCE, VERSIONS)
        assert opened.status is Status.UNVERIFIED


def test_the_contract_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = contents("coreml", image_size=320, points=9)
    write_manifest(stage(tmp_path), written)
    assert open_bundle(tmp_path).contract == written.contract


def test_files_that_cannot_be_run_here_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(stage(tmp_path), contents("onnx"))
    opened = open_bundle(tmp_path)
    monkeypatch.setattr(get_backend(opened.backend), "why_unavailable", lambda: "no runtime")
    with pytest.raises(BackendError, match=f"cannot run {tmp_path}: no runtime"):
        opened.predictor()


def test_options_of_the_files_can_be_why_they_are_not_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(stage(tmp_path), contents("onnx"))
    opened = open_bundle(tmp_path)
    assert opened.why_not_run() == ""
    monkeypatch.setattr(get_backend(opened.backend), "why_not_run", "no {opset}".format_map)
    with pytest.raises(BackendError, match=f"cannot run {tmp_path}: no {opened.convert['opset']}"):
        opened.predictor()


def test_files_are_listed_with_hash_and_size(tmp_path: Path) -> None:
    inner = {"encoder.mlpackage/Data/weights.bin": b"w", "golden/click/mask.png": b"png"}
    write_manifest(stage(tmp_path, **inner), contents("coreml"))
    opened = open_bundle(str(tmp_path))
    assert opened.files["decoder.bin"] == FileEntry(hashlib.sha256(b"decoder").hexdigest(), 7)
    assert set(opened.files) == {"encoder.bin", "decoder.bin", *inner}
    assert set(opened.graph_files) == set(opened.files) - {"golden/click/mask.png"}
