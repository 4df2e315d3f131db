"""What `benchmarks.web` serves to a browser: page, runtimes and the bytes of tensors."""

import json
import shutil
import subprocess
from pathlib import Path

import click
import numpy as np

from benchmarks.speed_files import Tensors
from benchmarks.tables import ROOT

SAMPLE = ROOT / "mobilesam_export" / "bundle" / "samples" / "web"
BROWSER = ROOT / "benchmarks" / "browser"
RUNTIMES = {"onnx": "onnxruntime-web", "tflite": "LiteRT.js"}
PACKAGES = {"onnxruntime-web": "onnxruntime-web", "LiteRT.js": "@litertjs/core"}
LITERT_JS = "2.5.3"


def page_folder(folder: Path) -> Path:
    """Where `opened_page` looks for the page and its server."""
    return folder / "sample" / "web"


def install(folder: Path) -> dict[str, str]:
    """The page, its server and both runtimes, as `opened_page` expects them; runtimes' versions.

    Raises:
        click.ClickException: there is no npm.
    """
    if (program := shutil.which("npm")) is None:
        raise click.ClickException("no npm on PATH to get the runtimes with: install Node.js")
    page = page_folder(folder)
    page.mkdir(parents=True, exist_ok=True)
    for path in (SAMPLE / "serve.py", *BROWSER.iterdir()):
        shutil.copy(path, page)
    wanted = json.loads((SAMPLE / "package.json").read_text())["dependencies"]
    packages = [f"{name}@{version}" for name, version in wanted.items()]
    npm = [
        program,
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]
    npm += ["--prefix", str(page), *packages, f"{PACKAGES['LiteRT.js']}@{LITERT_JS}"]
    subprocess.run(npm, check=True)
    modules = page / "node_modules"
    # A browser knows no packages: the one import by name becomes an address.
    text = (modules / "@litertjs" / "core" / "dist" / "index.js").read_text()
    address = "./@litertjs/wasm-utils/dist/index.js"
    (modules / "litert.js").write_text(text.replace('"@litertjs/wasm-utils"', f'"{address}"'))
    return {
        runtime: json.loads((modules / name / "package.json").read_text())["version"]
        for runtime, name in PACKAGES.items()
    }


def described(tensors: Tensors, folder: Path, name: str) -> dict[str, dict[str, object]]:
    """What the worker knows of tensors, whose bytes are written beside it."""
    (folder / "tensors").mkdir(exist_ok=True)
    found: dict[str, dict[str, object]] = {}
    for key, value in tensors.items():
        file = f"tensors/{name}-{key}.bin"
        (folder / file).write_bytes(np.ascontiguousarray(value).tobytes())
        found[key] = {"file": file, "dtype": str(value.dtype), "shape": list(value.shape)}
    return found
