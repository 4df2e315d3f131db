"""The Swift sample for Core AI, type-checked on Linux against stand-ins of Apple's frameworks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mobilesam_export.backends.coreai import backend
from mobilesam_export.bundle import readme
from mobilesam_export.bundle.samples import fill, write_files
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BackendError
from mobilesam_export.target import load_target
from tests.test_sample_swift import APP, CHROOT, OWN

VALUES = {
    **{"width": "256", "height": "320", "slots": "6", "target": "coreai", "recipe": "float16"},
    **{"fill_red": "124", "fill_green": "116", "fill_blue": "104", "image_dtype": "uint8"},
    **{"encoder": "encoder.aimodel", "decoder": "decoder.aimodel", "minimum_os": "27"},
}
CODE = re.compile(r"```swift\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swift")
    (name,) = backend.samples(Contract(256, 6, load_target("coreai").graph))
    write_files(name, folder, VALUES)
    return (folder / "swift").rename(folder / "sample")


def test_the_sample_type_checks(sample: Path) -> None:
    """So do the app, its tests, and the code of both READMEs."""
    if not (CHROOT / "ready").exists():
        pytest.skip("no Swift: make swift-toolchain (root, 2.7 GB, minutes)")
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    folder = sample.parent
    shutil.copytree(OWN / "stubs", folder / "stubs")
    shutil.copy(OWN / "typecheck.sh", folder)
    texts = [readme.template("sample-swift-coreai.md"), (sample / "README.md").read_text()]
    codes = [
        code + "".join(f"_ = {name}\n" for name in re.findall(r"^let (\w+)", code, re.MULTILINE))
        for text in texts
        for code in CODE.findall(text)
    ]
    (folder / "Readme.swift").write_text(APP % tuple(codes))
    command = [str(OWN / "run.sh"), str(CHROOT), str(folder), "./typecheck.sh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("type-checked\n"), done.stderr[-3000:]


def test_the_sample_is_of_core_ai_alone(sample: Path) -> None:
    texts = {path.name: path.read_text() for path in sample.rglob("*") if path.is_file()}
    named = [name for name, text in texts.items() if re.search(r"mlmodel|mlpackage|MLModel", text)]
    assert named == []
    assert "ImageSize(width: 256, height: 320)" in texts["Contract.swift"]
    assert '.iOS("27.0")' in texts["Package.swift"]
    assert "coreai-models" in texts["README.md"]


def test_a_variant_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="names no sample: 'swift-none'"):
        write_files("swift-none", tmp_path, VALUES)
    assert fill("{{width}}", VALUES) == "256"
