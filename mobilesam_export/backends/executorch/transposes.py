"""XNNPACK's graph without transposes and reshapes that undo each other.

Convolutions take maps with channels last, and so do our layers between them. ExecuTorch does not
know that: it writes the exchange of axes that PyTorch's convolution asks for, and beside it one of
its own that turns the map back. It also hands the order of a convolution's result on to whatever
follows, which would put the channels of all our layers into the third of four axes. In here, the
order ends at each exchange of axes, and two that cancel each other are left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any
from unittest import mock


@contextmanager
def cancelled() -> Iterator[None]:
    """Within it, graphs for XNNPACK are written without them."""
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass import (
        ChannelsLastTaggedReshapePass,
    )
    from executorch.exir.dialects._ops import ops

    serialize = xnnpack_preprocess.serialize_xnnpack_binary

    def serialized(graph: Any, constants: bytearray) -> Any:
        simplify(graph)
        return serialize(graph, constants)

    plain = ChannelsLastTaggedReshapePass.memory_sensitive_ops_nchw
    exchanged = plain | {ops.edge.aten.permute_copy.default}
    with (
        mock.patch.object(ChannelsLastTaggedReshapePass, "memory_sensitive_ops_nchw", exchanged),
        mock.patch.object(xnnpack_preprocess, "serialize_xnnpack_binary", serialized),
    ):
        yield


def simplify(graph: Any) -> None:
    """Merge chains of transposes and of reshapes in an `XNNGraph`, and drop what nothing takes."""
    producers: dict[int, Any] = {}
    replaced: dict[int, int] = {}
    for item in graph.xnodes:
        node = item.xnode_union
        for key in _inputs(node):
            setattr(node, key, replaced.get(getattr(node, key), getattr(node, key)))
        before = producers.get(getattr(node, "input_id", -1))
        if isinstance(before, type(node)):
            if _kind(node) == "XNNStaticReshape":
                node.input_id = before.input_id
            elif _kind(node) == "XNNStaticTranspose":
                node.perm = [before.perm[axis] for axis in node.perm]
                node.input_id = before.input_id
                if node.perm == sorted(node.perm) and node.output_id not in graph.output_ids:
                    replaced[node.output_id] = node.input_id
        producers[node.output_id] = node
    _drop_unused(graph)


def _drop_unused(graph: Any) -> None:
    """From the end on, as nodes stand in the order in which they run."""
    taken, kept = set(graph.output_ids), []
    for item in reversed(graph.xnodes):
        node = item.xnode_union
        if node.output_id in taken:
            taken.update(getattr(node, key) for key in _inputs(node))
            kept.append(item)
    graph.xnodes[:] = reversed(kept)


def _inputs(node: Any) -> list[str]:
    names = [field.name for field in fields(node)]
    return [name for name in names if name.endswith("_id") and name != "output_id"]


def _kind(node: Any) -> str:
    return type(node).__name__
