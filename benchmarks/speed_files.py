"""Files that benchmarks of speed run, with inputs and answers: bundles and the naive form.

Naive is the official code's form of both graphs (`naive_form`), by the same converter. Bundles are
of the demo weights and exported with `--split-decoder`.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import naive_form, tflite_cpu
from benchmarks.tables import ROOT
from mobilesam_export import prompts
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.scenes import scene

SEED = 30_000  # of a scene that nothing is trained or tuned on
THREADS = 2
RECIPES = {
    "onnx": ("float32", "float16", "w8-dynamic", "w8a8"),
    "tflite": ("float32", "w8-dynamic"),
}
NAIVE = {"encoder": naive_form.NaiveEncoder, "decoder": naive_form.NaiveDecoder}
Tensors = Mapping[str, Array]
Run = Callable[[], Tensors]


@dataclass(frozen=True)
class File:
    """A file to be run.

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
        """Where a browser runs it: with the other files of its bundle."""
        return f"{self.target}-{self.recipe}"

    def is_near(self, expected: Array, error: Mapping[str, float]) -> bool:
        """Whether an answer is as near to another as the recipe wants both to PyTorch's.

        Of a decoder, (1, 4, H/4, W/4) are logits and (1, 4) predicted IoUs; all else is like an
        embedding.

        Args:
            expected: the other answer.
            error: largest ("max") and root mean square ("rms").
        """
        tolerance = self.bundle.recipe.tolerance
        if self.graph.startswith("decoder"):
            limit = self.bundle.logits_limit if expected.ndim == 4 else tolerance.iou_max_abs_error
            return error["max"] <= limit
        peak = float(np.abs(expected).max())
        return error["rms"] <= peak * 10 ** (-tolerance.embedding_psnr_db / 20)

    def opened(self) -> Run:
        """The file loaded with two threads."""
        if self.recipe == "naive":
            return NAIVE_FILES[self.target][1](self.path, self.inputs, len(self.expected))
        session = self.bundle.session(self.graph, threads=THREADS)
        return lambda: session.run(dict(self.inputs))


def question(contract: Contract, embedding: Array) -> dict[str, Array]:
    """The decoder's inputs: all slots foreground clicks, no mask."""
    random, side = np.random.default_rng(SEED), contract.image_size
    return {
        "image_embeddings": embedding,
        "point_coords": random.uniform(0, side, (1, contract.points, 2)).astype(np.float32),
        "point_labels": np.ones((1, contract.points), np.float32),
        "mask_input": np.zeros((1, 1, side // 4, side // 4), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
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
    click = question(first.contract, embedding)
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
        convert, opened = NAIVE_FILES[target]
        if not path.exists():
            convert(module(sam).eval(), inputs, path)
        expected = opened(path, inputs, 1 if graph == "encoder" else 2)()
        found.append(File(target, "naive", graph, path, inputs, expected, bundle))
    return found


def open_onnx(path: Path, inputs: Tensors, count: int = 1) -> Run:
    """An ONNX file that no bundle has, ready to run on given inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    assert len(names) == count  # noqa: S101 - as the module returns
    return lambda: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _open_tflite(path: Path, inputs: Tensors, count: int) -> Run:
    names = [f"output_{index}" for index in range(count)]
    file = tflite_cpu.File(path, inputs, names)

    def run() -> Tensors:
        file.run()
        return dict(zip(names, file.answers(), strict=True))

    return run


Convert = Callable[[torch.nn.Module, Tensors, Path], None]
Open = Callable[[Path, Tensors, int], Run]
NAIVE_FILES: dict[str, tuple[Convert, Open]] = {
    "onnx": (naive_form.convert_onnx, open_onnx),
    "tflite": (tflite_cpu.convert_naive, _open_tflite),
}
