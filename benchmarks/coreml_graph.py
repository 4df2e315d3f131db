"""Core ML graphs in export form against the official code's form, both made by coremltools.

`python -m benchmarks.coreml_graph` writes `benchmarks/results/coreml_graph.json`: for encoder and
decoder at 1024 in float16, what `inspect` says of our package, and of what coremltools makes of
the model as the official code writes it (`naive_form`; the decoder is our plain model's) with the
same weights by the same way through torch.export. The baseline's decoder takes one click and no
mask, ours any prompt: the plain code asks which prompts there are while it runs.
Nothing is run: counts and sizes only.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.naive_form import NaiveEncoder
from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreml import backend as coreml
from mobilesam_export.checkpoint.seeded import seeded_state_dict
from mobilesam_export.contract import Contract
from mobilesam_export.errors import first_line
from mobilesam_export.graphs import split_graphs
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.inspection.report import GraphReport, inspect_graph
from mobilesam_export.inspection.text import render
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.quiet import quiet
from mobilesam_export.target import load_target

RESULT = Path(__file__).parent / "results" / "coreml_graph.json"
SIDE, SLOTS = 1024, 6
# What the issue counts; `inspect` counts pads, gathers and others, too.
FIVE = ("transpose", "reshape", "slice_by_index", "slice_by_size", "concat", "split")


class PlainDecoder(nn.Module):
    """`Sam.decode` with one click, whose label is known."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image_embeddings: Tensor, point_coords: Tensor) -> tuple[Tensor, Tensor]:
        return self.sam.decode(image_embeddings, point_coords, torch.ones(1, 1))


def measure(side: int) -> dict[str, Any]:
    """Figures of both graphs in both forms."""
    sam = build_sam(seeded_state_dict(0), side)
    with tempfile.TemporaryDirectory() as folder:
        ours = _ours(sam, side, Path(folder))
        official = _official(sam, side, Path(folder))
    return {
        name: {
            "export_form": ours[name],
            "official_form": official[name],
            "ratio": _ratio(ours[name], official[name]),
        }
        for name in ours
    }


def _ours(sam: Sam, side: int, folder: Path) -> dict[str, dict[str, Any]]:
    target = load_target("coreml")
    contract = Contract(side, SLOTS, target.graph)
    recipe = target.recipes["float16"]
    settings = coreml.parse_recipe(recipe, target.graph, target.convert)
    keys = ("description", "author", "license", "version")
    figures = {}
    for graph in split_graphs(sam, contract):
        path = folder / f"{graph.spec.name}.mlpackage"
        metadata = dict.fromkeys(keys, "benchmark")
        coreml.convert(graph, Conversion(settings, recipe, contract, metadata), path)
        report = inspect_graph(coreml.describe(path))
        figures[graph.spec.name] = {**_figures(report), "text": render(report).splitlines()}
    return figures


def _official(sam: Sam, side: int, folder: Path) -> dict[str, dict[str, Any]]:
    embeddings = torch.zeros(1, 256, side // 16, side // 16)
    cases: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "encoder": (NaiveEncoder(sam), (torch.zeros(1, 3, side, side),)),
        "decoder": (PlainDecoder(sam), (embeddings, torch.zeros(1, 1, 2))),
    }
    figures = {}
    for name, (module, inputs) in cases.items():
        path = folder / f"official_{name}.mlpackage"
        try:
            _convert_official(module, inputs, path)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as exc:
            figures[name] = {"does_not_convert": first_line(exc)}
        else:
            figures[name] = _figures(inspect_graph(coreml.describe(path)))
    return figures


def _convert_official(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    with quiet():
        import coremltools as ct
    with quiet(), torch.no_grad():
        program = torch.export.export(module.eval(), inputs)
        names = [spec.arg.name for spec in program.graph_signature.input_specs]
        model = ct.convert(
            program.run_decompositions({}),
            inputs=[
                ct.TensorType(name=name, shape=tuple(tensor.shape), dtype=np.float32)
                for name, tensor in zip(names[-len(inputs) :], inputs, strict=True)
            ],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16,
            skip_model_load=True,
        )
        model.save(str(path))


def _figures(report: GraphReport) -> dict[str, Any]:
    assert report.residency is not None  # noqa: S101 - every package has rules
    rank, axis = report.largest_rank, report.largest_axis
    return {
        "file_bytes": report.file_bytes,
        "ops": sum(report.ops.values()),
        "ops_by_kind": dict(report.ops),
        "data_movement_ops": sum(report.data_movement.values()),
        "transpose_reshape_slice_concat_split": sum(report.ops.get(kind, 0) for kind in FIVE),
        "macs": sum(report.macs.values()),
        "peak_activation_bytes": report.peak_bytes,
        "peak_op": f"{report.peak_kind} {report.peak_op}",
        "largest_rank": len(rank.shape or ()) if rank else 0,
        "longest_axis": max((size or 0 for size in axis.shape or ()), default=0) if axis else 0,
        "residency_by_rules": dict(report.residency.counts),
        "rules": {
            name: dict(rule.ops)
            for name, rule in report.residency.rules.items()
            if rule.verdict != Verdict.RESIDENT
        },
    }


def _ratio(ours: dict[str, Any], official: dict[str, Any]) -> dict[str, float]:
    keys = ("data_movement_ops", "transpose_reshape_slice_concat_split", "peak_activation_bytes")
    return {key: round(ours[key] / official[key], 3) for key in keys if key in official}


def main() -> None:
    """Measure, write, print."""
    result = {
        "image_size": SIDE,
        "how": "counts and liveness by mobilesam-export inspect; residency by rules; nothing run",
        "coremltools": version("coremltools"),
        "torch": version("torch"),
        **measure(SIDE),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
