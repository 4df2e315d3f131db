"""What each layer does to the masks, and what rounding all but some of them does."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mobilesam_export import sensitivity
from mobilesam_export.graphs import Graph
from mobilesam_export.rounding import NOTHING_KNOWN, rounded
from mobilesam_export.sensitivity import Damage, Groups
from mobilesam_export.target import Recipe, patterns
from mobilesam_export.target.recipe import PRECISIONS


@dataclass(frozen=True)
class Candidate:
    """A group of layers that can be raised.

    Attributes:
        graph: "encoder" or "decoder".
        pattern: of its weights, for the recipe's exceptions.
    """

    graph: str
    pattern: str


def rank(damages: Sequence[Damage], *, for_speed: bool) -> list[Candidate]:
    """Groups, those first that harm most for what it costs to raise them.

    Args:
        damages: of all groups to choose from.
        for_speed: whether the recipe computes in integers. Then a group costs its share of all
            products, too, which take longer when it is raised; else its share of the weights.
    """
    numbers = sum(damage.numbers for damage in damages)
    products = sum(damage.products for damage in damages)

    def gain(damage: Damage) -> float:
        cost = damage.numbers / numbers
        if for_speed and products:
            cost += damage.products / products
        return harm(damage) / cost

    ordered = sorted(damages, key=gain, reverse=True)
    return [Candidate(damage.graph, damage.group) for damage in ordered]


def harm(damage: Damage) -> float:
    """Mask IoU that is lost; of groups that lose none, those that disturb the embedding first.

    The noise of an embedding as a share of its peak's power is far below any loss that shows: 1e-4
    at 40 dB.
    """
    psnr = damage.embedding_psnr_db
    return damage.loss + (0.0 if psnr is None else 10 ** (-psnr / 10))


def compressed_groups(
    graph: Graph, recipe: Recipe, compresses: Callable[[str], bool]
) -> dict[str, list[str]]:
    """Blocks of layers, and the names of those weights that the recipe compresses.

    Args:
        graph: in export form.
        recipe: with its exceptions.
        compresses: whether it does so with a weight that is no exception, by name.
    """
    exceptions: Mapping[str, str] = recipe.exceptions.get(graph.spec.name, {})
    groups = sensitivity.weight_groups(graph.module, recipe.weight_threshold)
    names = {name: name for found in groups.values() for name in found}
    excepted = patterns.stored_types(names, exceptions)
    kept = {
        group: [n for n in found if excepted.get(n) not in PRECISIONS and compresses(n)]
        for group, found in groups.items()
    }
    return {group: found for group, found in kept.items() if found}


def layers_of(groups: Groups) -> Groups:
    """The weights of blocks, layer by layer."""
    layers: dict[str, dict[str, list[str]]] = {graph: {} for graph in groups}
    for graph, blocks in groups.items():
        for name in (name for names in blocks.values() for name in names):
            layers[graph].setdefault(name.removesuffix(".weight"), []).append(name)
    return layers


@contextlib.contextmanager
def simulated(
    graphs: Sequence[Graph],
    recipe: Recipe,
    groups: Groups,
    chosen: Collection[Candidate],
    stored: str,
    known: sensitivity.KnownNumbers | None = None,
) -> Iterator[None]:
    """While inside, all is rounded at once as the recipe with these groups raised rounds it.

    Args:
        graphs: encoder and decoder.
        recipe: as it was.
        groups: blocks of the weights that it compresses.
        chosen: the groups that are raised.
        stored: in what; "int8" are weights in int8 that are computed with in float32.
        known: of the numbers of each graph's file.
    """
    weights_only = replace(recipe, activations="float32")
    with contextlib.ExitStack() as stack:
        for graph in graphs:
            found = (known or {}).get(graph.spec.name, NOTHING_KNOWN)
            raised = [item.pattern for item in chosen if item.graph == graph.spec.name]
            for names in groups[graph.spec.name].values():
                for name in names:
                    kept = any(patterns.matches(name, pattern) for pattern in raised)
                    if kept and stored in PRECISIONS:
                        continue
                    used, layer = weights_only if kept else recipe, name.removesuffix(".weight")
                    stack.enter_context(rounded(graph.module, layer, [name], used, found))
        yield
