"""What the kinds of operations of Core AI programs mean to counts."""

from mobilesam_export.inspection.graph import Dialect
from mobilesam_export.inspection.macs import convolution, product, transposed_convolution

# Names of the operands that rules and counts ask for, in the order of the operation's own.
PARAMETERS = {
    "conv2d": ("x", "weight", "strides", "dilations", "groups"),
    "conv_transpose2d": ("x", "weight"),
    "batch_matmul": ("x", "y"),
    "broadcasting_batch_matmul": ("x", "y"),
}
UNPACKING = frozenset({"blockwise_shift_scale", "lut_to_dense"})  # of compressed weights

DIALECT = Dialect(
    data_movement=frozenset(
        """
        broadcast_in_dims concat expand_dims gather gather_nd pad reshape reverse scatter_nd slice
        slice_update split squeeze tile transpose
        """.split()  # noqa: SIM905 - a list would take 20 lines
    ),
    macs={
        "conv2d": convolution("weight"),
        "conv_transpose2d": transposed_convolution("x", "weight"),
        "batch_matmul": product("x", "y"),
        "broadcasting_batch_matmul": product("x", "y"),
    },
    uncounted=frozenset({"conv1d", "conv3d", "scaled_dot_product_attention"}),
)
