"""Names of the weights of both graphs, and the check that a recipe's patterns match some."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mobilesam_export.contract import Contract
from mobilesam_export.errors import TargetError
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.model import Sam
from mobilesam_export.target import GraphForm, Recipe, patterns


def weights(module: nn.Module, threshold: int = 0) -> dict[str, Tensor]:
    """Float tensors of two and more axes and over `threshold` elements, by name.

    They are in the order of the modules that hold them.
    """
    order = {name: position for position, name in enumerate(dict(module.named_modules()))}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    tensors.sort(key=lambda item: order[item[0].rpartition(".")[0]])
    return {
        name: tensor
        for name, tensor in tensors
        if tensor.ndim >= 2 and tensor.numel() > threshold and tensor.is_floating_point()
    }


def skeletons(contract: Contract) -> tuple[Graph, Graph]:
    """Encoder and decoder of an untrained model: for names and shapes, which no checkpoint changes.

    Half a second. (On torch's meta device it takes 2.5 s, as that imports torch's compiler.)
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return split_graphs(Sam(contract.size), contract)


def check_patterns(recipe: Recipe, contract: Contract) -> None:
    """Refuse a recipe with a pattern that matches no weight.

    Exceptions are for weights over the recipe's threshold; patterns of its `quantize` table may
    mean any.

    Raises:
        TargetError: names the pattern and its place in the file.
    """
    if not any([*recipe.patterns("encoder"), *recipe.patterns("decoder")]):
        return
    for graph in skeletons(contract):
        label, threshold = f"weight of the {graph.spec.name}", recipe.weight_threshold
        for keys in recipe.patterns(graph.spec.name):
            if keys[0] == "exceptions":
                large = f"{label} with more than {threshold} elements"
                patterns.check(weights(graph.module, threshold), large, *keys)
            else:
                patterns.check(weights(graph.module), label, *keys)


def check_kept(kept: Sequence[str], form: GraphForm, *, layers: bool) -> None:
    """Refuse what would keep nothing in float32.

    Args:
        kept: `keep_float32` of a recipe: classes of modules.
        form: of the graphs; their size and slots change no names.
        layers: whether patterns of weights mean layers as well.

    Raises:
        TargetError: with the classes that there are.
    """
    modules = [graph.module for graph in skeletons(Contract(256, 6, form))]
    classes = {type(part).__name__ for module in modules for part in module.modules()}
    found = [name for module in modules for name in weights(module)] if layers else []
    means = "no module's class and matches no weight" if layers else "no module's class"
    for entry in kept:
        if entry not in classes and not patterns.matching(found, entry):
            raise TargetError(
                f"keep_float32: {entry!r} is {means}; classes are {', '.join(sorted(classes))}",
                "keep_float32",
            )
