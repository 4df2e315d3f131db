"""What several tests share: the seeded model and bundles exported through the installed program."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.model.architecture import load_architecture
from mobilesam_export.target import builtin_targets, load_target
from tests.cli_runner import warm
from tests.kept_conversions import FOLDER, keep_conversions

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
SIZE = 256  # the smallest: the same code as 1024 at a twentieth of the time
# A student with one narrow block in each stage, through the same code as MobileSAM's twelve blocks.
STUDENT = "seeded:tiny"
SALT = 3  # of weights with which the default recipe of every target holds
WEIGHTS = f"{STUDENT}:{SALT}"
DEFAULT = ("-c", WEIGHTS, "--image-size", str(SIZE))  # of most exports, after the target
RECTANGLE = ("-c", WEIGHTS, "--image-size", "320x256")  # width x height, its margin 64
ALL = "all"  # folder below `shared` in which tests/test_all.py exports every target

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = (  # no sandbox: root has none; the rest: no connection but to our own servers
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

# `make test` runs two processes on two cores: more threads would only wait for each other. The
# environment is for the programs that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# How long an example takes depends on the machine's load.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def tiny_state_dict() -> dict[str, torch.Tensor]:
    """The weights WEIGHTS."""
    return seeded_state_dict(SALT, load_architecture("tiny"))


@cache
def mobilesam_state_dict() -> dict[str, torch.Tensor]:
    """Seeded weights of MobileSAM's own size, as every test may read and none may change them."""
    return seeded_state_dict(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on bundles first, with `all` as the very first.

    They take longest. And of two processes the second begins in the middle, with tests that have
    no bundle to wait for.
    """
    items.sort(key=lambda item: "shared" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def state_dict() -> dict[str, torch.Tensor]:
    """The weights WEIGHTS, as every test may read and none may change them."""
    return tiny_state_dict()


@pytest.fixture(scope="session")
def mobilesam() -> dict[str, torch.Tensor]:
    """What `mobilesam_state_dict` gives."""
    return mobilesam_state_dict()


@pytest.fixture(scope="session")
def sam(state_dict: dict[str, torch.Tensor]) -> Sam:
    """The model with WEIGHTS at SIZE."""
    return build_sam(state_dict, SIZE)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one session share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "bundles"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def kept(shared: Path) -> None:
    """Conversions are made once in a session, in this process and in those of `warm`."""
    os.environ[FOLDER] = str(shared / "conversions")
    keep_conversions()


@pytest.fixture(scope="session")
def export(shared: Path) -> Callable[..., Path]:
    """Export once per session through the real command line, by arguments; do not write to it.

    Processes of one session share what one of them has exported. What the program said on stderr
    lies beside the bundle, in a file with the suffix .stderr, unless `all` has made it.
    """

    def run(*arguments: str) -> Path:
        if (made := made_by_all(shared, arguments)) is not None:
            return made
        folder = shared / "-".join(arguments).replace("/", "_")
        with FileLock(f"{folder}.lock"):
            if not folder.exists():  # a bundle is there as a whole or not at all
                result = warm(shared, [*arguments, "-o", folder])
                assert result.code == 0, result.stderr
                folder.with_suffix(".stderr").write_text(result.stderr)
        return folder

    return run


@pytest.fixture(scope="session")
def wheel(shared: Path) -> Path:
    """The wheel of this checkout, built once per session."""
    folder = shared / "wheel"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            part = shared / "wheel.part"
            build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
            command = [*build, "--outdir", str(part), str(ROOT)]
            subprocess.run(command, check=True, capture_output=True)
            part.rename(folder)
    (made,) = folder.glob("*.whl")
    return made


def made_by_all(shared: Path, arguments: tuple[str, ...]) -> Path | None:
    """The bundle that `tests/test_all.py` has exported with the same arguments, if it ran."""
    target, *rest = arguments
    if tuple(rest) != DEFAULT or target not in builtin_targets():
        return None
    folder = shared / ALL / "build" / f"{target}-{load_target(target).default_recipe}"
    return folder if folder.exists() else None


@pytest.fixture(scope="session")
def onnx_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float32 bundle of seeded weights at SIZE."""
    return export("onnx", *DEFAULT)


@pytest.fixture(scope="session")
def rectangle_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float32 bundle of a rectangle."""
    return export("onnx", *RECTANGLE)


@pytest.fixture(scope="session")
def onnx_demo_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float32 bundle of the demo weights at SIZE."""
    return export("onnx", "-c", "demo", "--image-size", str(SIZE))


@pytest.fixture(scope="session")
def onnx_float16_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx` float16 bundle of other seeded weights at SIZE."""
    return export("onnx", "-c", f"{STUDENT}:4", "-r", "float16", "--image-size", str(SIZE))


@pytest.fixture(scope="session")
def onnx_sam_bundle(export: Callable[..., Path]) -> Path:
    """An `onnx-sam` float32 bundle of seeded weights at SIZE."""
    return export("onnx-sam", *DEFAULT)


@pytest.fixture(scope="session")
def coreml_bundle(export: Callable[..., Path]) -> Path:
    """A `coreml` float16 bundle of seeded weights at SIZE."""
    return export("coreml", *DEFAULT)


@pytest.fixture(scope="session")
def tflite_bundle(export: Callable[..., Path]) -> Path:
    """A `tflite` w8-dynamic bundle of seeded weights at SIZE."""
    return export("tflite", *DEFAULT)


@pytest.fixture(scope="session")
def compressed(shared: Path, export: Callable[..., Path]) -> Callable[[str], Path]:
    """A bundle of seeded weights at 256 by the name of its recipe, not verified.

    Where the recipe makes palettes, those of the decoder are left out: to find them takes a minute.
    """
    text = (ROOT / "targets" / "coreml.toml").read_text()
    table = r'(\[recipe\.w\d-palettized\.exceptions\.decoder\]\n)(?:".*\n)+'
    text, count = re.subn(table, r'\1"*" = "float16"\n', text)
    assert count == 2
    target = shared / "coreml.toml"
    target.write_text(text)
    return lambda name: export("run", str(target), *DEFAULT, "-r", name, "--no-verify")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on PATH ({', '.join(BROWSERS)}): apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*BROWSER_FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """What `npm install` makes of the web sample's package.json, kept in build/."""
    wanted = ROOT / "mobilesam_export" / "bundle" / "samples" / "web" / "package.json"
    folder = ROOT / "build" / "npm" / hashlib.sha256(wanted.read_bytes()).hexdigest()[:16]
    ready = folder / "ready"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not ready.exists():
            if (npm := shutil.which("npm")) is None:
                pytest.skip("no npm on PATH to get onnxruntime-web with")
            shutil.copy(wanted, folder)
            install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(install, cwd=folder, check=True, capture_output=True)
            ready.touch()
    return folder / "node_modules"
