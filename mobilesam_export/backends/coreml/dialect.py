"""What the kinds of operations of ML Programs mean to counts."""

from mobilesam_export.inspection.graph import Dialect, Node
from mobilesam_export.inspection.macs import convolution, product, times, transposed_convolution


def _linear(node: Node) -> int | None:
    weight = node.input("weight")
    depth = weight.shape[-1] if weight and weight.shape else None
    return times(node.outputs[0].elements, depth)


def _einsum(node: Node) -> int | None:
    """For "nchw,nwhu->nchu" and "chw,whr->chr", all that ML Programs have.

    Contracted over the last axis of the first operand.
    """
    left = node.inputs.get("values", (None,))[0]
    return times(node.outputs[0].elements, left.shape[-1] if left and left.shape else None)


def _attention(node: Node) -> int | None:
    """The two matrix products of scaled_dot_product_attention."""
    query, key, value = (node.input(name) for name in ("query", "key", "value"))
    if not (query and key and value and query.shape and key.shape and value.shape):
        return None
    scores = times(query.elements, key.shape[-2])
    sums = times(node.outputs[0].elements, key.shape[-2])
    return None if scores is None or sums is None else scores + sums


DIALECT = Dialect(
    data_movement=frozenset(
        """
        batch_to_space concat crop depth_to_space expand_dims flatten2d gather gather_along_axis
        gather_nd pad pixel_shuffle pixel_unshuffle reshape reshape_like reverse scatter
        scatter_along_axis scatter_nd slice_by_index slice_by_size slice_update sliding_windows
        space_to_batch space_to_depth split squeeze stack tile transpose
        """.split()  # noqa: SIM905 - a list would take 30 lines
    ),
    macs={
        "conv": convolution("weight"),
        "conv_transpose": transposed_convolution("x", "weight"),
        "einsum": _einsum,
        "linear": _linear,
        "matmul": product("x", "y"),
        "scaled_dot_product_attention": _attention,
    },
    uncounted=frozenset({"gru", "lstm", "rnn"}),
)
