"""Core ML bundles whose packages cannot be run, though their manifests vouch for them."""

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobilesam_export.quiet import quiet
from tests.cli_runner import ERROR, refused

DATA = Path("Data", "com.apple.CoreML")
MODEL, WEIGHTS = DATA / "model.mlmodel", DATA / "weights" / "weight.bin"
Change = Callable[[Path], object]

pytestmark = pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML opens them there")


def edited(change: Callable[[Any], object]) -> Change:
    """Change the specification."""

    def damage(package: Path) -> None:
        with quiet():
            from coremltools.proto import Model_pb2
        spec = Model_pb2.Model.FromString((package / MODEL).read_bytes())
        change(spec)
        (package / MODEL).write_bytes(spec.SerializeToString())

    return damage


def shortened(name: Path) -> Change:
    def damage(package: Path) -> None:
        content = (package / name).read_bytes()
        (package / name).write_bytes(content[: len(content) // 2])

    return damage


def older(spec: Any) -> None:
    main = spec.mlProgram.functions["main"]
    main.block_specializations["CoreML5"].CopyFrom(main.block_specializations[main.opset])
    main.opset = "CoreML5"


def unknown(spec: Any) -> None:
    main = spec.mlProgram.functions["main"]
    main.block_specializations[main.opset].operations[-1].type = "frobnicate"


DAMAGE: dict[str, tuple[Change, list[str]]] = {
    "no manifest": (
        lambda package: (package / "Manifest.json").unlink(),
        ["no Core ML package", "Manifest.json cannot be read"],
    ),
    "no weights": (
        lambda package: (package / WEIGHTS).unlink(),
        ["weight.bin cannot be read", "export the package again"],
    ),
    "short weights": (shortened(WEIGHTS), ["weight.bin ends at byte"]),
    "short specification": (shortened(MODEL), ["model.mlmodel is damaged"]),
    "unknown operation": (edited(unknown), ["does not know: frobnicate"]),
    "older": (edited(older), ["made for 'CoreML5'", "expected CoreML6", "iOS16"]),
    "neural network": (
        edited(lambda spec: spec.neuralNetwork.SetInParent()),
        ["type neuralNetwork", "expected an ML Program"],
    ),
}


@pytest.fixture
def damaged(
    request: pytest.FixtureRequest, coreml_bundle: Path, tmp_path: Path
) -> tuple[Path, list[str]]:
    """A bundle with a damaged encoder and the right hashes, and what must be said of it."""
    change, phrases = DAMAGE[request.param]
    bundle = Path(shutil.copytree(coreml_bundle, tmp_path / "bundle"))
    change(bundle / "encoder.mlpackage")
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in [name for name in manifest["files"] if name.startswith("encoder")]:
        del manifest["files"][name]
    for path in (path for path in (bundle / "encoder.mlpackage").rglob("*") if path.is_file()):
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        name = path.relative_to(bundle).as_posix()
        manifest["files"][name] = {"sha256": sha256, "bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle, phrases


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_segment_says_what_is_wrong(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    bundle, phrases = damaged
    image = shutil.copy(bundle / "golden" / "landscape" / "image.png", tmp_path)
    refused(tmp_path, ["segment", "bundle", image, "--point", "1,1"], ERROR, phrases)


@pytest.mark.parametrize("damaged", ["short weights", "unknown operation"], indirect=True)
def test_verify_says_what_is_wrong(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    _, phrases = damaged
    refused(tmp_path, ["verify", "bundle"], ERROR, phrases)


@pytest.mark.parametrize("damaged", ["older"], indirect=True)
def test_inspect_says_what_is_wrong(damaged: tuple[Path, list[str]], tmp_path: Path) -> None:
    _, phrases = damaged
    refused(tmp_path, ["inspect", "bundle"], ERROR, phrases)
