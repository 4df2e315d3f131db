"""What the kinds of TFLite's ops mean to counts.

Filters have the output channels first, those of a depthwise convolution last.
"""

from mobilesam_export.inspection.graph import Dialect, Node
from mobilesam_export.inspection.macs import convolution, times, without_last_axis


def _depthwise(node: Node) -> int | None:
    """Filters of (1, *kernel, channels)."""
    return times(node.outputs[0].elements, without_last_axis(node.input("filter")))


def _transposed(node: Node) -> int | None:
    """Filters of (output channels, *kernel, input channels)."""
    source = node.input("input")
    return times(source.elements if source else None, without_last_axis(node.input("filter")))


def _batch_product(node: Node) -> int | None:
    """A matrix product whose operands may be stored transposed."""
    left = node.input("x")
    if left is None or not left.shape:
        return None
    depth = left.shape[-2] if node.attributes.get("adjX") else left.shape[-1]
    return times(node.outputs[0].elements, depth)


def _fully_connected(node: Node) -> int | None:
    weight = node.input("weights")
    depth = weight.shape[-1] if weight and weight.shape else None
    return times(node.outputs[0].elements, depth)


DIALECT = Dialect(
    data_movement=frozenset(
        """
        BROADCAST_TO CONCATENATION DEPTH_TO_SPACE EXPAND_DIMS GATHER GATHER_ND PACK PAD PADV2
        RESHAPE SCATTER_ND SLICE SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TRANSPOSE
        UNPACK
        """.split()  # noqa: SIM905 - a list would take 20 lines
    ),
    macs={
        "BATCH_MATMUL": _batch_product,
        "CONV_2D": convolution("filter"),
        "DEPTHWISE_CONV_2D": _depthwise,
        "FULLY_CONNECTED": _fully_connected,
        "TRANSPOSE_CONV": _transposed,
    },
)
