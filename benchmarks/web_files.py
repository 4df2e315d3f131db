"""What `benchmarks.web` runs in a browser: files, their inputs, and their answers in Python."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks import naive_form, split_decoder, tflite_cpu
from benchmarks.tables import ROOT
from mobilesam_export import prompts
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.scenes import scene

SAMPLE = ROOT / "mobilesam_export" / "bundle" / "samples" / "web"
BROWSER = ROOT / "benchmarks" / "browser"
SEED = 30_000  # of a scene that nothing is trained or tuned on
RECIPES = {
    "onnx": ("float32", "float16", "w8-dynamic", "w8a8"),
    "tflite": ("float32", "w8-dynamic"),
}
RUNTIMES = {"onnx": "onnxruntime-web", "tflite": "LiteRT.js"}
PACKAGES = {"onnxruntime-web": "onnxruntime-web", "LiteRT.js": "@litertjs/core"}
LITERT_JS = "2.5.3"
NAIVE = {"encoder": naive_form.NaiveEncoder, "decoder": naive_form.NaiveDecoder}
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class File:
    """A file that a browser runs.

    Attributes:
        target: whose runtime runs it.
        recipe: of its bundle, or "naive".
        graph: encoder, decoder, prepare or decoder_prepared.
        path: where it is.
        inputs: by name.
        expected: outputs by name, of the same file in Python.
        bundle: whose limits the answers are held to: its own, or of a naive file, the float32 one.
    """

    target: str
    recipe: str
    graph: str
    path: Path
    inputs: Tensors
    expected: Tensors
    bundle: Bundle

    @property
    def worker(self) -> str:
        """Where it runs: with the other files of its bundle."""
        return f"{self.target}-{self.recipe}"


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


def exported(folder: Path, target: str, recipe: str, side: int) -> Bundle:
    """The bundle of a recipe, exported unless it is there."""
    out = folder / f"{target}-{recipe}"
    if not out.exists():
        command = [sys.executable, "-m", "mobilesam_export", target, "-c", "demo", "-r", recipe]
        command += ["--image-size", str(side), "--split-decoder", "--no-verify", "-o", str(out)]
        subprocess.run(command, check=True, cwd=ROOT)
    return open_bundle(out)


def files(folder: Path, side: int, recipes: Mapping[str, Sequence[str]]) -> list[File]:
    """All files of some targets' recipes, float32 among them, after the naive ones."""
    bundles = {
        target: {recipe: exported(folder, target, recipe, side) for recipe in of_target}
        for target, of_target in recipes.items()
    }
    first = next(iter(bundles.values()))["float32"]
    image = prompts.encoder_inputs(scene(SEED, side, side), first.contract)
    embedding = first.session("encoder").run(image)["image_embeddings"]
    click = split_decoder.question(first.contract, embedding)
    sam = build_sam(load_checkpoint("demo").state_dict, side)
    found = []
    for target, of_target in bundles.items():
        found += _naive(folder, target, sam, {"encoder": image, "decoder": click}, of_target)
        for recipe, bundle in of_target.items():
            found += _of_bundle(bundle, recipe, image, click)
    return found


def _of_bundle(bundle: Bundle, recipe: str, image: Tensors, click: Tensors) -> list[File]:
    """Its four files; `decoder_prepared` is asked about what its own `prepare` makes."""
    known, found = {**image, **click}, []
    for spec in bundle.contract.graphs:
        (path,) = bundle.folder.glob(f"{spec.name}.*")
        inputs = {item.name: known[item.name] for item in spec.inputs}
        expected = bundle.session(spec.name).run(inputs)
        if spec.name == "prepare":
            known |= expected
        found.append(File(bundle.target, recipe, spec.name, path, inputs, expected, bundle))
    return found


def _naive(
    folder: Path, target: str, sam: Sam, asked: Mapping[str, Tensors], bundles: Mapping[str, Bundle]
) -> list[File]:
    """The official code's form of both graphs, through the same converter."""
    found, bundle = [], bundles["float32"]
    for graph, module in NAIVE.items():
        inputs = tflite_cpu.naive_inputs(asked[graph], graph, sam.image_size)
        path = folder / "naive" / f"{graph}.{target}"
        path.parent.mkdir(exist_ok=True)
        convert, answers = NAIVE_FILES[target]
        if not path.exists():
            convert(module(sam).eval(), inputs, path)
        expected = answers(path, inputs, 1 if graph == "encoder" else 2)
        found.append(File(target, "naive", graph, path, inputs, expected, bundle))
    return found


def _onnx_answers(path: Path, inputs: Tensors, count: int) -> Tensors:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    assert len(names) == count  # noqa: S101 - as the module returns
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _tflite_answers(path: Path, inputs: Tensors, count: int) -> Tensors:
    names = [f"output_{index}" for index in range(count)]
    file = tflite_cpu.File(path, inputs, names)
    file.run()
    return dict(zip(names, file.answers(), strict=True))


Convert = Callable[[torch.nn.Module, Tensors, Path], None]
Answers = Callable[[Path, Tensors, int], Tensors]
NAIVE_FILES: dict[str, tuple[Convert, Answers]] = {
    "onnx": (naive_form.convert_onnx, _onnx_answers),
    "tflite": (tflite_cpu.convert_naive, _tflite_answers),
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
