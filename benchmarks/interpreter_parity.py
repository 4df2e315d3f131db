"""The MIL interpreter's exact arithmetic against ONNX Runtime's, at 1024, on the same checkpoint.

`python -m benchmarks.interpreter_parity` writes `benchmarks/results/interpreter_parity.json`: the
float32 Core ML package by the MIL interpreter, the float32 ONNX files by ONNX Runtime, on the
images and prompts of `verify`. The two programs share no converter, no layout and no runtime, so
their agreement shows that the interpreter reads and computes packages correctly.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mobilesam_export import metrics
from mobilesam_export.backends import get_backend
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.predictor import Answer, Predictor
from mobilesam_export.target import load_target
from mobilesam_export.verification.cases import object_prompts, verification_scenes

RESULT = Path(__file__).parent / "results" / "interpreter_parity.json"
SIDE, SLOTS = 1024, 6
CHECKPOINTS = ("seeded", "demo")


@dataclass(frozen=True)
class Figures:
    """The worst over both images and every prompt."""

    embedding_max_abs_error: float
    logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float
    prompts: int


def measure(checkpoint: str, side: int = SIDE) -> Figures:
    """Figures of one checkpoint's encoder and decoder, end to end."""
    sam = build_sam(load_checkpoint(checkpoint).state_dict, side)
    with tempfile.TemporaryDirectory() as folder:
        interpreted, expected = (
            _convert(sam, name, side, Path(folder)) for name in ("coreml", "onnx")
        )
        return compare(interpreted, expected)


def compare(interpreted: Predictor, expected: Predictor) -> Figures:
    """Ask both for every prompt of `verify`, each on its own embedding."""
    rows: list[tuple[float, ...]] = []
    for scene in verification_scenes(expected.contract.image_size).values():
        ours, theirs = interpreted.embed(scene.image), expected.embed(scene.image)
        for prompt in object_prompts(max(scene.masks, key=np.count_nonzero), SLOTS).values():
            found, wanted = interpreted.predict(prompt, ours), expected.predict(prompt, theirs)
            rows.append(
                (
                    float(np.abs(ours.embeddings - theirs.embeddings).max()),
                    _largest_error(found, wanted, "low_res_masks"),
                    _largest_error(found, wanted, "iou_predictions"),
                    metrics.mask_iou(found.mask, wanted.mask),
                )
            )
    embedding, logits, iou, mask = zip(*rows, strict=True)
    return Figures(max(embedding), max(logits), max(iou), min(mask), len(rows))


def _largest_error(found: Answer, wanted: Answer, name: str) -> float:
    return float(np.abs(found.outputs[name] - wanted.outputs[name]).max())


def _convert(sam: Sam, name: str, side: int, folder: Path) -> Predictor:
    """Encoder and decoder in float32; the Core ML ones opened by the interpreter on a Mac, too."""
    target = load_target(name)
    backend = get_backend(target.backend)
    contract = Contract(side, SLOTS, target.graph)
    recipe = target.recipes["float32"]
    settings = backend.parse_recipe(recipe, target.graph, target.convert)
    metadata = dict.fromkeys(("description", "author", "license", "version"), "benchmark")
    sessions = {}
    for graph in split_graphs(sam, contract):
        path = folder / f"{graph.spec.name}{backend.suffix}"
        conversion = Conversion(settings, recipe, contract, metadata)
        backend.convert(graph, conversion, path)
        sessions[graph.spec.name] = backend.second_opinion(path) or backend.load(path, graph.spec)
    return Predictor(**sessions, contract=contract)


def main() -> None:
    """Measure, write, print."""
    figures = {name: asdict(measure(name)) for name in CHECKPOINTS}
    RESULT.write_text(json.dumps({"image_size": SIDE, **figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
