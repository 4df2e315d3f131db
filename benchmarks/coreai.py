"""Graphs run in float16 by Core AI, Apple's own runtime, which runs on Linux, too.

It takes LayerNorm apart and squares in float16, which no other runtime on a PC does, so its answers
show whether pessimistic float16 is a good model of Apple's arithmetic. The files are those of the
target `coreai`: the export form and the types of `coreml`'s.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mobilesam_export.backends import Conversion, get_backend, reference
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import Graph, ranges, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification import verify
from mobilesam_export.verification.cases import reference_cases
from mobilesam_export.verification.report import Report

TARGET = load_target("coreai")
POINTS = 6  # prompt slots, the program's default


def verified(weights: Mapping[str, Tensor], image_size: int, recipe: str = "float16") -> Report:
    """Hold the export form, run by Core AI, to PyTorch.

    Args:
        weights: of the model, by name.
        image_size: S.
        recipe: of the target.
    """
    contract = Contract(image_size, POINTS, TARGET.graph)
    sam = build_sam(weights, image_size)
    with ranges.observed(sam) as peaks:
        expected = reference_cases(reference.load(sam, contract))
    folded = ranges.fold_ranges(sam, ranges.choose_exponents(peaks))
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            session(graph, contract, Path(folder), recipe)
            for graph in split_graphs(folded, contract)
        )
        tolerance = TARGET.recipes[recipe].tolerance
        return verify.verify(Predictor(first, second, contract), expected, tolerance)


def session(
    graph: Graph, contract: Contract, folder: Path, recipe_name: str = "float16"
) -> Session:
    """A graph as a file of the target, loaded into Core AI.

    Args:
        graph: of this contract.
        contract: of the target's form.
        folder: where the file goes.
        recipe_name: of the target.
    """
    backend, recipe = get_backend(TARGET.backend), TARGET.recipes[recipe_name]
    settings = backend.parse_recipe(recipe, TARGET.graph, TARGET.options(recipe))
    path = folder / f"{graph.spec.name}{backend.suffix}"
    backend.convert(graph, Conversion(settings, recipe, contract, {}), path)
    return backend.load(path, graph.spec)
