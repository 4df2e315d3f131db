"""How far PyTorch and ONNX float32 are from the official model, at 1024, on golden vectors.

`python -m benchmarks.parity` writes `benchmarks/results/parity.json`; a slow test asserts the
same figures. It also measures what the uint8 contract's fill color costs, whose padding is the
byte nearest to the model's zero and not zero itself.
"""

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import golden_vectors
from mobilesam_export import metrics, prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.onnx import backend as onnx
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.contract import Array, Contract
from mobilesam_export.contract.frame import square
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import load_target

RESULT = Path(__file__).parent / "results" / "parity.json"
SLOTS = 6


@dataclass(frozen=True)
class Figures:
    """The worst over both images and all twelve prompts."""

    embedding_max_abs_error: float
    logits_max_abs_error: float
    iou_max_abs_error: float
    mask_iou: float


def measure() -> dict[str, Figures]:
    """Figures of each way through the model, by a name that says which."""
    sam = build_sam(seeded_state_dict(0), 1024)
    slots = Contract(1024, SLOTS, load_target("onnx").graph)
    exact = Contract(1024, SLOTS, load_target("onnx-sam").graph)  # pads with exact zeros
    encoder, decoder = split_graphs(sam, slots)
    padding_encoder, _ = split_graphs(sam, exact)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = Predictor(
            encoder=_converted(encoder, slots, folder),
            decoder=_converted(decoder, slots, folder),
            contract=slots,
        )
        padding = _converted(padding_encoder, exact, folder)
        padded = Predictor(encoder=padding, decoder=files.decoder, contract=exact)
        return {
            "PyTorch": compare(reference.load(sam, exact), reference.load(sam, slots)),
            "ONNX float32, zeros as padding": compare(padded, files),
            "ONNX float32, the fill color as padding": compare(files, files),
        }


def compare(encoding: Predictor, decoding: Predictor) -> Figures:
    """Run every golden case through the encoder of one and the slot decoder of another."""
    rows: list[tuple[float, ...]] = []
    for case in golden_vectors.load():
        image = encoding.embed(case.image)
        error = float(np.abs(image.embeddings[0, ::8, ::4, ::4] - case.embedding_sub).max())
        previous: Array | None = None
        for golden in case.prompts:
            mask_input = previous if golden.from_previous else None
            outputs = decoding.decode(replace(golden.prompt, mask_input=mask_input), image)
            low_res, iou = outputs["low_res_masks"], outputs["iou_predictions"][0]
            previous = low_res[:, golden.token : golden.token + 1]
            mask = prompts.upscale(low_res[0, golden.token], image.size, square(1024)) > 0
            rows.append(
                (
                    error,
                    float(np.abs(low_res[0, :, ::4, ::4] - golden.low_res_sub).max()),
                    float(np.abs(iou - golden.iou).max()),
                    metrics.mask_iou(mask, golden.best_mask),
                )
            )
    embedding, logits, iou, masks = zip(*rows, strict=True)
    return Figures(max(embedding), max(logits), max(iou), min(masks))


def _converted(graph: Graph, contract: Contract, folder: Path) -> Session:
    target = load_target("onnx")
    recipe = target.recipes["float32"]
    settings = onnx.parse_recipe(recipe, contract.form, target.convert)
    metadata = {"version": "0", "description": "parity"}
    path = folder / f"{graph.spec.name}.onnx"
    onnx.convert(graph, Conversion(settings, recipe, contract, metadata), path)
    return onnx.load(path, graph.spec)


def main() -> None:
    """Measure, write, print."""
    figures = {name: asdict(value) for name, value in measure().items()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
