"""Peak activation memory of a graph, by liveness: the tensors held while each op runs.

A value lives from its producer to its last consumer. Inputs and outputs of the
graph belong to the caller: inputs live from start to end, outputs from their producer to the
end. While an op runs, its inputs and outputs are all held. Weights are not counted.

Ops run in the order of the file. Views, computing in place, fusion and tiling are not modelled, nor
does a format's alignment count, so that a runtime may need less or more.
"""

from dataclasses import dataclass

from mobilesam_export.inspection.graph import GraphDescription, Node, Tensor


@dataclass(frozen=True)
class Peak:
    """The op during which the most memory is held.

    Attributes:
        bytes: held memory, of the tensors whose size is known.
        node: the op; None in a graph without ops.
        live: the held tensors, the largest first.
        unknown: number of tensors of the graph whose size is known only when it runs.
    """

    bytes: int
    node: Node | None
    live: tuple[Tensor, ...]
    unknown: int


def find_peak(graph: GraphDescription) -> Peak:
    """Walk through the ops; of equal peaks, the first."""
    tensors = {tensor.name: tensor for tensor in graph.activations()}
    sizes = {name: tensor.size_bytes or 0 for name, tensor in tensors.items()}
    last_use = _last_uses(graph)
    live = {tensor.name for tensor in graph.inputs}
    size = sum(sizes[name] for name in live)
    best, best_node, best_live = size, None, sorted(live)
    for index, node in enumerate(graph.nodes):
        results = {tensor.name for tensor in node.outputs}
        size += sum(sizes[name] for name in results - live)
        live |= results
        if size > best or best_node is None:
            best, best_node, best_live = size, node, sorted(live)
        dead = {t.name for t in (*node.operands(), *node.outputs) if last_use[t.name] <= index}
        size -= sum(sizes[name] for name in dead)
        live -= dead
    largest = sorted((tensors[name] for name in best_live), key=lambda t: -sizes[t.name])
    unknown = sum(tensor.size_bytes is None for tensor in tensors.values())
    return Peak(best, best_node, tuple(largest), unknown)


def _last_uses(graph: GraphDescription) -> dict[str, int]:
    """Value -> index of its last consumer; past the last op for inputs and outputs."""
    uses: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for tensor in (*node.operands(), *node.outputs):
            uses[tensor.name] = index
    for tensor in (*graph.inputs, *graph.outputs):
        uses[tensor.name] = len(graph.nodes)
    return uses
