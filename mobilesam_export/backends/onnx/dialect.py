"""What the kinds of ONNX's operators mean to counts."""

from mobilesam_export.inspection.graph import Dialect
from mobilesam_export.inspection.macs import convolution, product, transposed_convolution

DIALECT = Dialect(
    data_movement=frozenset(
        """
        Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Pad Reshape Scatter
        ScatterElements ScatterND Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze
        """.split()  # noqa: SIM905 - a list would take 20 lines
    ),
    macs={
        "Conv": convolution("W"),
        "ConvTranspose": transposed_convolution("X", "W"),
        "Gemm": product("A", "B"),
        "MatMul": product("A", "B"),
    },
    uncounted=frozenset(
        """
        Attention ConvInteger DeformConv Einsum GRU LSTM MatMulInteger QLinearConv QLinearMatMul RNN
        com.microsoft.Attention com.microsoft.FusedConv com.microsoft.FusedGemm
        com.microsoft.FusedMatMul com.microsoft.MatMulNBits com.microsoft.MultiHeadAttention
        """.split()  # noqa: SIM905 - a list would take 20 lines
    ),
)
