"""Bundles that are none, damaged or of another kind, and checkpoints they were not made of."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.cli_runner import ERROR, FAILED, USAGE, refused, refused_cold, snapshot, warm
from tests.conftest import STUDENT, WEIGHTS


@pytest.fixture
def bundle(onnx_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(onnx_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def vouch(bundle: Path, *names: str) -> None:
    """Write the hashes of changed files into the manifest, as a forger would."""

    def change(manifest: dict[str, Any]) -> None:
        for name in names:
            content = (bundle / name).read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            manifest["files"][name] = {"sha256": sha256, "bytes": len(content)}

    edit(bundle, change)


def write_manifest(text: str) -> Callable[[Path], object]:
    return lambda bundle: (bundle / "manifest.json").write_text(text, encoding="utf-8")


def remove(name: str) -> Callable[[Path], object]:
    return lambda bundle: (bundle / name).unlink()


def set_key(*path: str, value: object) -> Callable[[Path], object]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return lambda bundle: edit(bundle, change)


def flip_a_byte(bundle: Path) -> None:
    path = bundle / "encoder.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(bundle: Path) -> None:
    path = bundle / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1000])


def swap(bundle: Path) -> None:
    encoder, decoder = bundle / "encoder.onnx", bundle / "decoder.onnx"
    encoder.rename(bundle / "aside")
    decoder.rename(encoder)
    (bundle / "aside").rename(decoder)


def vouched(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        damage(bundle)
        vouch(bundle, "encoder.onnx", "decoder.onnx")

    return change


def binary_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"\xff\xfe\x00")


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no folder": (shutil.rmtree, ["bundle does not exist"]),
    "no manifest": (remove("manifest.json"), ["not a bundle", "no manifest.json"]),
    "damaged JSON": (write_manifest('{"tool": '), ["manifest.json is damaged"]),
    "binary manifest": (binary_manifest, ["manifest.json is damaged"]),
    "empty manifest": (write_manifest(""), ["manifest.json is damaged"]),
    "list": (write_manifest("[]"), ["was not written by mobilesam-export"]),
    "foreign": (write_manifest('{"name": "web app"}'), ["was not written by mobilesam-export"]),
    "bare": (write_manifest('{"tool": "mobilesam-export"}'), ["not a bundle's manifest"]),
    "newer": (set_key("schema_version", value=4), ["manifest version 4", "reads version 3"]),
    "older": (set_key("schema_version", value=2), ["manifest version 2", "export again"]),
    "files as a list": (set_key("files", value=[]), ["not a bundle's manifest"]),
    "no files": (set_key("files", value={}), ["lists no decoder"]),
    "size as text": (set_key("contract", "image_size", value="x"), ["not a bundle's manifest"]),
    "other size": (set_key("contract", "image_size", value=0), ["not a bundle's manifest"]),
    "other layout": (set_key("contract", "form", "layout", value="x"), ["manifest.json", "layout"]),
    "other backend": (set_key("backend", value="tensorrt"), ["tensorrt"]),
    "other status": (set_key("verification", "status", value="fine"), ["manifest.json", "fine"]),
    "file without a hash": (set_key("files", "encoder.onnx", value={"bytes": 1}), ["sha256"]),
    "recipe of another version": (set_key("recipe", "warp", value=1), ["manifest.json", "warp"]),
    "missing file": (remove("encoder.onnx"), ["encoder.onnx is missing; export again"]),
    "missing golden file": (
        remove("golden/landscape/image.png"),
        ["golden/landscape/image.png is missing"],
    ),
    "changed byte": (flip_a_byte, ["encoder.onnx", "SHA-256 differs", "export again"]),
    "cut": (cut, ["decoder.onnx", "SHA-256 differs", "export again"]),
    "swapped": (swap, ["coder.onnx", "SHA-256 differs", "export again"]),
    "swapped and vouched for": (vouched(swap), ["encoder.onnx is not the encoder"]),
    "cut and vouched for": (vouched(cut), ["cannot load", "decoder.onnx"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_verify_says_what_is_wrong(name: str, bundle: Path, tmp_path: Path) -> None:
    damage, phrases = DAMAGE[name]
    damage(bundle)
    refused(tmp_path, ["verify", "bundle"], ERROR, ["bundle", *phrases])


@pytest.mark.parametrize(
    "name", ["no manifest", "newer", "changed byte", "swapped and vouched for"]
)
def test_segment_uses_no_damaged_bundle(name: str, bundle: Path, tmp_path: Path) -> None:
    damage, phrases = DAMAGE[name]
    image = shutil.copy(bundle / "golden" / "landscape" / "image.png", tmp_path)
    damage(bundle)
    refused(tmp_path, ["segment", "bundle", image, "--point", "1,1"], ERROR, phrases)


def test_segment_warns_of_damage_outside_the_model_files(bundle: Path, tmp_path: Path) -> None:
    image = shutil.copy(bundle / "golden" / "landscape" / "image.png", tmp_path)
    (bundle / "README.md").write_text("edited")
    (bundle / "golden" / "landscape" / "image.png").unlink()
    result = warm(tmp_path, ["segment", "bundle", image, "--point", "9,9"])
    assert result.code == 0, result.stderr
    assert "bundle: README.md is not the file that was exported" in result.stderr
    assert "bundle: golden/landscape/image.png is missing" in result.stderr
    assert (tmp_path / "mask.png").exists()


@pytest.mark.parametrize("name", ["gone", "file", "a" * 300])
def test_what_is_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused_cold(tmp_path, ["verify", name], ERROR, [name])


def test_other_weights(bundle: Path, tmp_path: Path) -> None:
    phrases = [f"exported from other weights ({WEIGHTS}) than {STUDENT}:5 holds"]
    refused(tmp_path, ["verify", "bundle", "-c", f"{STUDENT}:5"], USAGE, phrases)


def test_missing_checkpoint(bundle: Path, tmp_path: Path) -> None:
    refused(tmp_path, ["verify", "bundle", "-c", "gone.pt"], ERROR, ["gone.pt does not exist"])


def test_weights_from_a_file_are_asked_for(bundle: Path, tmp_path: Path) -> None:
    set_key("checkpoint", "source", value="mine.pt")(bundle)
    set_key("checkpoint", "file_sha256", value="0" * 64)(bundle)
    refused(tmp_path, ["verify", "bundle"], USAGE, ["exported from the file mine.pt", "-c"])


def test_files_that_compute_something_else_fail(bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(bundle / "decoder.onnx")
    weights = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    doubled = 2 * onnx.numpy_helper.to_array(weights).astype(np.float32)
    weights.CopyFrom(onnx.numpy_helper.from_array(doubled, weights.name))
    onnx.save(model, bundle / "decoder.onnx")
    vouch(bundle, "decoder.onnx")
    before = snapshot(bundle)
    result = warm(tmp_path, ["verify", "bundle"])
    assert result.code == FAILED
    assert result.stdout.startswith("bundle: FAILED (ONNX Runtime ")
    assert "logits" in result.stdout
    assert "Traceback" not in result.stderr
    assert snapshot(bundle) == before
