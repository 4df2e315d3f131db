"""What the kinds of nodes in ExecuTorch programs mean to counts; other delegates' are closed.

Filters have the output channels first, those of a depthwise convolution last.
"""

from mobilesam_export.backends.executorch.delegates import DELEGATES
from mobilesam_export.inspection.graph import Dialect, Node
from mobilesam_export.inspection.macs import convolution, times, without_last_axis


def _depthwise(node: Node) -> int | None:
    """Filters of (1, *kernel, channels)."""
    return times(node.outputs[0].elements, without_last_axis(node.input("filter")))


def _transposed(node: Node) -> int | None:
    """Filters of (output channels, *kernel, input channels)."""
    source = node.input("input1")
    return times(source.elements if source else None, without_last_axis(node.input("filter")))


def _batch_product(node: Node) -> int | None:
    left = node.input("input1")
    return times(node.outputs[0].elements, left.shape[-1] if left and left.shape else None)


DIALECT = Dialect(
    data_movement=frozenset(
        """
        Concatenate2 Concatenate3 Concatenate4 Concatenate5 ConstantPad Convert Copy Reshape Slice
        Transpose
        """.split()  # noqa: SIM905 - a list would take 10 lines
    ),
    macs={
        "BatchMatrixMultiply": _batch_product,
        "Conv2d": convolution("filter"),
        "ConvTranspose2d": _transposed,
        "DepthwiseConv2d": _depthwise,
        "FullyConnected": convolution("filter"),
    },
    uncounted=frozenset(item.backend for item in DELEGATES.values()),
)
