"""Graphs run in float16 by Core AI, Apple's own runtime, which runs on Linux, too.

Not one of the backends: nothing is exported in this format. What it is for: it takes LayerNorm
apart and squares in float16, which no other runtime on a PC does, so its answers show whether
pessimistic float16 is a good model of Apple's arithmetic. Its files are those of the target
`coreml`: the same export form, in the same types.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam_export.backends import reference
from mobilesam_export.contract import Array, Contract
from mobilesam_export.graphs import Graph, in_float16, ranges, split_graphs
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification import verify
from mobilesam_export.verification.cases import reference_cases

# What stays float32, as in the recipe float16 of coreml: float16 cannot tell neighbouring pixels
# above 1024 apart.
KEPT_FLOAT32 = ("PointTokens",)
POINTS = 6  # prompt slots, the program's default


def verified(weights: Mapping[str, Tensor], image_size: int) -> verify.Report:
    """Hold `coreml`'s export form, run by Core AI, to PyTorch: a report as on its file.

    Args:
        weights: of the model, by name.
        image_size: S.
    """
    target = load_target("coreml")
    contract = Contract(image_size, POINTS, target.graph)
    sam = build_sam(weights, image_size)
    with ranges.observed(sam) as peaks:
        expected = reference_cases(reference.load(sam, contract))
    encoder, decoder = split_graphs(
        ranges.fold_ranges(sam, ranges.choose_exponents(peaks)), contract
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        session(encoder, Path(folder)) as first,
        session(decoder, Path(folder)) as second,
    ):
        tolerance = target.recipes["float16"].tolerance
        return verify.verify(Predictor(first, second, contract), expected, tolerance)


@contextmanager
def session(graph: Graph, folder: Path) -> Iterator[Session]:
    """An export form in float16 as a file of Core AI, loaded into its runtime.

    Args:
        graph: it stays as it is.
        folder: where the file goes.
    """
    from coreai.authoring import AIModelAsset
    from coreai_torch import TorchConverter, get_decomp_table

    module, examples = in_float16(graph.module, KEPT_FLOAT32), graph.example_inputs()
    if graph.image_input:
        examples = tuple(value.half() for value in examples)
    program = torch.export.export(module, examples).run_decompositions(get_decomp_table())
    path = folder / f"{graph.spec.name}.aimodel"
    TorchConverter().add_exported_program(program).to_coreai().save_asset(path)
    named = zip(graph.spec.outputs, program.graph_signature.user_outputs, strict=True)
    outputs = {str(found): spec.name for spec, found in named}
    with asyncio.Runner() as runner:
        executable = AIModelAsset.load(path).executable()
        function = runner.run(executable.__aenter__()).load_function("main")

        def run(inputs: dict[str, Array]) -> dict[str, Array]:
            values = [value.numpy() for value in graph.module_inputs(inputs)]
            if graph.image_input:
                values = [value.astype(np.float16) for value in values]
            found = runner.run(_run(function, values))
            return {name: found[key].astype(np.float32) for key, name in outputs.items()}

        try:
            yield Session(run, f"Core AI {version('coreai-core')}, float16")
        finally:
            runner.run(executable.__aexit__(None, None, None))


async def _run(function: Any, values: list[Any]) -> dict[str, Array]:  # noqa: ANN401 untyped
    """Arrays in the graph's order -> arrays by the names of the graph's outputs."""
    from coreai.runtime import NDArray

    named = zip(function.desc.input_names, values, strict=True)
    answers = await function({name: NDArray(np.ascontiguousarray(v)) for name, v in named})
    return {name: answers[name].numpy() for name in function.desc.output_names}
