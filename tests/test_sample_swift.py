"""The Swift sample of a bundle, on Linux, with golden vectors for Core ML.

`tests/swift/stubs` stands in for Apple's frameworks, with the signatures that the sample uses.
Debian 12 has no Swift: `make swift-toolchain` makes a chroot of Debian 13, which has it.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from tests.conftest import ROOT
from tests.sample_limits import write_manifest

OWN = ROOT / "tests" / "swift"
CHROOT = ROOT / ".swift"
# In debug builds the loops that resize are 50 times slower.
OPTIONS = ["-c", "release", "-Xswiftc", "-enable-testing", "-Xswiftc", "-warnings-as-errors"]
# What the stand-in of Core ML takes for a package.
MODELS = {
    "bundle": {"encoder": "encoder", "decoder": "decoder"},
    "missing": {"encoder": "encoder"},
    "damaged": {"encoder": "no model", "decoder": "decoder"},
    "swapped": {"encoder": "decoder", "decoder": "encoder"},
}
# The READMEs' code in functions of an app; nothing calls them.
APP = """import Foundation
import MobileSAM

func bundle(photo: URL, bundleFolder: URL) async throws {
%s}

func sample(photo: URL) async throws {
%s}
"""
NAMES = [
    name
    for path in (
        OWN / "LinuxTests.swift",
        ROOT / "mobilesam_export/bundle/samples/swift/Tests/MobileSAMTests/GoldenTests.swift",
    )
    for name in re.findall(r"func (test\w+)\(", path.read_text())
]


@pytest.fixture(scope="session")
def printed(coreml_bundle: Path, shared: Path) -> str:
    """What `swift test` printed, run once per session."""
    if not (CHROOT / "ready").exists():
        pytest.skip("no Swift: make swift-toolchain (root, 2.7 GB, minutes)")
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    folder = shared / "swift"
    with FileLock(f"{folder}.lock"):
        if not (folder / "printed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _write_package(folder, coreml_bundle)
            command = [str(OWN / "run.sh"), str(CHROOT), str(folder), "swift", "test", *OPTIONS]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            (folder / "printed").write_text(done.stdout + done.stderr)
    return (folder / "printed").read_text()


def _write_package(folder: Path, bundle: Path) -> None:
    for name, files in MODELS.items():
        shutil.copytree(bundle / "golden", folder / name / "golden")
        for graph, text in files.items():
            (folder / name / f"{graph}.mlpackage").write_text(text)
    write_manifest(folder / "bundle")
    shutil.copytree(bundle / "sample", folder / "bundle" / "sample")
    for path in (folder / "bundle" / "golden").rglob("*.*g"):  # .png, .jpg
        _write_decoded(path)
    shutil.copytree(OWN / "stubs", folder / "stubs")
    shutil.copy(OWN / "Package.swift", folder)
    (folder / "LinuxTests").mkdir()
    shutil.copy(OWN / "LinuxTests.swift", folder / "LinuxTests")
    _write_code_of_readmes(folder / "LinuxTests" / "Readme.swift", bundle)


def _write_code_of_readmes(path: Path, bundle: Path) -> None:
    """What an app developer copies: it only has to compile, and without the warning "unused"."""
    texts = [(bundle / part / "README.md").read_text() for part in ("", "sample/swift")]
    blocks = [re.findall(r"```swift\n(.*?)```", text, re.DOTALL) for text in texts]
    codes = [
        code + "".join(f"_ = {name}\n" for name in re.findall(r"^let (\w+)", code, re.MULTILINE))
        for (code,) in blocks
    ]
    path.write_text(APP % tuple(codes))


def _write_decoded(path: Path) -> None:
    """What the stand-in of Image I/O reads beside an image file: its pixels as stored."""
    with Image.open(path) as image:
        orientation = image.getexif().get(0x0112, 1)
        header = f"{image.width} {image.height} {orientation}\n".encode()
        Path(f"{path}.rgba").write_bytes(header + image.convert("RGBA").tobytes())


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_passes_each_of_its_tests(name: str, printed: str) -> None:
    pattern = rf"Test Case '\w+\.{name}' (passed|failed)"
    assert re.findall(pattern, printed) == ["passed"], printed[-3000:]


def test_every_golden_prompt_was_compared(printed: str, coreml_bundle: Path) -> None:
    index = json.loads((coreml_bundle / "golden" / "golden.json").read_text())
    for image in index["images"]:
        for prompt in image["prompts"]:
            assert printed.count(f"# iou {image['name']} {prompt['name']} ") == 1


def test_the_app_was_compiled(printed: str) -> None:
    """Against stand-ins of SwiftUI; an error in it fails the build and every test."""
    assert re.search(r"Compiling App \w+\.swift", printed)


def test_the_sample_states_the_bundles_contract(coreml_bundle: Path) -> None:
    folder = coreml_bundle / "sample" / "swift"
    texts = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert not [name for name, text in texts.items() if "{{" in text]
    assert "ImageSize(width: 256, height: 256)" in texts["Contract.swift"]
    assert '"iOS16"' in texts["Package.swift"]
