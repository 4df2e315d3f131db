"""How many products each weight of a graph takes part in: what it costs in time, by count."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mobilesam_export.graphs import Graph
from mobilesam_export.graphs.names import weights

FUNCTIONS = (F.linear, F.conv2d, F.conv_transpose2d)


class _Counted(TorchFunctionMode):
    """While inside, products are counted, wherever a form calls for them."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names  # by the identity of a weight
        self.found = dict.fromkeys(names.values(), 0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Of torch: each of its functions comes by here."""
        result = func(*args, **(kwargs or {}))
        if func in FUNCTIONS and (name := self.names.get(id(args[1]))):
            places: Tensor = args[0] if func is F.conv_transpose2d else result
            self.found[name] += places.numel() * args[1].numel() // len(args[1])
        return result


@torch.no_grad()
def count_products(graph: Graph) -> dict[str, int]:
    """Multiplications by each weight in one run of a graph in export form.

    Returns:
        By the name of a weight; 0 for what is only added.
    """
    names = {id(weight): name for name, weight in weights(graph.module).items()}
    with _Counted(names) as counted:
        graph.module(*graph.example_inputs())
    return counted.found
