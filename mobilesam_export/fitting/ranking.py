"""What each group of layers does to the masks, and what rounding all but some of them does."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mobilesam_export import sensitivity
from mobilesam_export.graphs import Graph
from mobilesam_export.graphs.names import weights
from mobilesam_export.sensitivity import Damage
from mobilesam_export.target import Recipe, patterns

FLOATS = ("float32", "float16")


@dataclass(frozen=True)
class Candidate:
    """A group of layers that can be raised.

    Attributes:
        graph: "encoder" or "decoder".
        pattern: of its weights, for the recipe's exceptions.
    """

    graph: str
    pattern: str


def rank(damages: Sequence[Damage], graphs: Sequence[Graph], recipe: Recipe) -> list[Candidate]:
    """Groups with weights that the recipe compresses, those first that harm most for their size."""
    sizes = {
        (graph.spec.name, group): sum(weights(graph.module)[name].numel() for name in names)
        for graph in graphs
        for group, names in compressed_groups(graph, recipe).items()
    }
    found = [damage for damage in damages if (damage.graph, damage.group) in sizes]
    found.sort(key=lambda d: harm(d) / sizes[d.graph, d.group], reverse=True)
    return [Candidate(damage.graph, damage.group) for damage in found]


def harm(damage: Damage) -> float:
    """Mask IoU that is lost; of groups that lose none, those that disturb the embedding first.

    The noise of an embedding as a share of its peak's power is far below any loss that shows: 1e-4
    at 40 dB.
    """
    psnr = damage.embedding_psnr_db
    return damage.loss + (0.0 if psnr is None else 10 ** (-psnr / 10))


def compressed_groups(graph: Graph, recipe: Recipe) -> dict[str, list[str]]:
    """Groups of layers, and the names of those weights that the recipe does not except."""
    exceptions: Mapping[str, str] = recipe.exceptions.get(graph.spec.name, {})
    groups = sensitivity.weight_groups(graph.module, recipe.weight_threshold)
    names = {name: name for found in groups.values() for name in found}
    excepted = patterns.stored_types(names, exceptions)
    kept = {
        group: [name for name in found if excepted.get(name) not in FLOATS]
        for group, found in groups.items()
    }
    return {group: found for group, found in kept.items() if found}


@contextlib.contextmanager
def simulated(
    graphs: Sequence[Graph], recipe: Recipe, left_out: Collection[Candidate]
) -> Iterator[None]:
    """While inside, everything but what is left out is rounded at once, as the recipe rounds it."""
    with contextlib.ExitStack() as stack:
        for graph in graphs:
            for group, names in compressed_groups(graph, recipe).items():
                if Candidate(graph.spec.name, group) not in left_out:
                    stack.enter_context(sensitivity.rounded(graph.module, group, names, recipe))
        yield
