"""What is known of a file's numbers once it has been converted: weights, and ranges of samples."""

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mobilesam_export.backends.simulation import Inputs
from mobilesam_export.contract import Array
from mobilesam_export.graphs import Graph
from mobilesam_export.rounding import Known, Seen


def known_numbers(
    graph: Graph,
    inputs: Mapping[str, Inputs] | None,
    weights: Mapping[str, Array],
    samples: Sequence[Mapping[str, Array]],
) -> Known:
    """Find the ranges that a file fixes, in the float32 graph.

    Args:
        graph: in export form.
        inputs: see `Backend.rounded_inputs`.
        weights: by name, those that the file has in place of the graph's.
        samples: inputs of the graph, which the file was calibrated with.
    """
    fixed = {name: item.fix for name, item in (inputs or {}).items() if item.fix is not None}
    results = [name for name in fixed if inputs and inputs[name].results]
    taken, given = _observed(graph, [*fixed], results, samples if fixed else ())
    ranges, ends = (
        {name: seen.fixed(fixed[name]) for name, seen in found.items() if seen.kept}
        for found in (taken, given)
    )
    return Known(weights, inputs, ranges, ends)


@torch.no_grad()
def _observed(
    graph: Graph,
    names: Sequence[str],
    results: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """What layers with these weights take, and some of them give."""
    taken, given = ({name: Seen() for name in found} for found in (names, results))

    def note(name: str) -> None:
        layer = graph.module.get_submodule(name.rpartition(".")[0])

        def seen(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            taken[name].add(inputs[0])
            if name in given:
                given[name].add(result)

        hooks.callback(layer.register_forward_hook(seen).remove)

    with contextlib.ExitStack() as hooks:
        for name in names:
            note(name)
        for sample in samples:
            graph.module(*graph.module_inputs(sample))
    return taken, given
