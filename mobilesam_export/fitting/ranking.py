"""What each layer does to the masks, and what rounding all but some of them does."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mobilesam_export import sensitivity
from mobilesam_export.graphs import Graph
from mobilesam_export.graphs.names import weights
from mobilesam_export.rounding import NOTHING_KNOWN, rounded
from mobilesam_export.sensitivity import Damage
from mobilesam_export.target import Recipe, patterns
from mobilesam_export.target.recipe import PRECISIONS

Compressed = Mapping[str, Sequence[str]]  # by graph, names of weights


@dataclass(frozen=True)
class Candidate:
    """A layer that can be raised.

    Attributes:
        graph: "encoder" or "decoder".
        pattern: of its weights, for the recipe's exceptions.
    """

    graph: str
    pattern: str


def rank(damages: Sequence[Damage], *, for_speed: bool) -> list[Candidate]:
    """Layers, those first that harm most for what it costs to raise them.

    Args:
        damages: of all layers to choose from.
        for_speed: whether the recipe computes in integers. Then a layer costs its share of all
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
    """Mask IoU that is lost; of layers that lose none, those that disturb the embedding first.

    The noise of an embedding as a share of its peak's power is far below any loss that shows: 1e-4
    at 40 dB.
    """
    psnr = damage.embedding_psnr_db
    return damage.loss + (0.0 if psnr is None else 10 ** (-psnr / 10))


def compressed_weights(
    graph: Graph, recipe: Recipe, compresses: Callable[[str], bool]
) -> list[str]:
    """Names of those weights that the recipe compresses.

    Args:
        graph: in export form.
        recipe: with its exceptions.
        compresses: whether it does so with a weight that is no exception, by name.
    """
    exceptions: Mapping[str, str] = recipe.exceptions.get(graph.spec.name, {})
    names = {name: name for name in weights(graph.module, recipe.weight_threshold)}
    excepted = patterns.stored_types(names, exceptions)
    return [name for name in names if excepted.get(name) not in PRECISIONS and compresses(name)]


def layer_of(weight: str) -> str:
    """The pattern of a weight's layer, or of the weight if it is all that a module has."""
    return weight.removesuffix(".weight")


@contextlib.contextmanager
def simulated(
    graphs: Sequence[Graph],
    recipe: Recipe,
    compressed: Compressed,
    chosen: Collection[Candidate],
    stored: str,
    known: sensitivity.KnownNumbers | None = None,
) -> Iterator[None]:
    """While inside, all is rounded at once as the recipe with these layers raised rounds it.

    Args:
        graphs: encoder and decoder.
        recipe: as it was.
        compressed: names of the weights that it compresses, by graph.
        chosen: the layers that are raised.
        stored: in what; "int8" are weights in int8 that are computed with in float32.
        known: of the numbers of each graph's file.
    """
    weights_only = replace(recipe, activations="float32")
    with contextlib.ExitStack() as stack:
        for graph in graphs:
            found = (known or {}).get(graph.spec.name, NOTHING_KNOWN)
            raised = [item.pattern for item in chosen if item.graph == graph.spec.name]
            for name in compressed[graph.spec.name]:
                kept = any(patterns.matches(name, pattern) for pattern in raised)
                if kept and stored in PRECISIONS:
                    continue
                used = weights_only if kept else recipe
                stack.enter_context(rounded(graph.module, layer_of(name), [name], used, found))
        yield
