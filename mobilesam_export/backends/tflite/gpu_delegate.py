"""What LiteRT's sources and issues say of its GPU delegates, as rules on single ops of TFLite.

Nothing is run here. CHECK and BUILDER are the older delegate's, tflite/tools/versioning/ and
tflite/delegates/gpu/common/; DRIFT is ML Drift's, ml_drift_delegate/tflite/, all in
google-ai-edge/LiteRT, whose issues the numbers are. An op of a kind that CHECK does not name is
not resident. "tried" means that an op of the kind was given to LiteRT 2.3.0's WebGPU delegate,
which is ML Drift, in float32 on a software Vulkan: what was right there may be wrong on a phone
with an older LiteRT, so such ops stay at risk.
"""

from mobilesam_export.inspection.graph import Node
from mobilesam_export.inspection.placement import Placement, Verdict
from mobilesam_export.inspection.rules import Rule, judge

MAX_RANK = 4
CHECK = "LiteRT gpu_compatibility.cc"
BUILDER = "LiteRT gpu/common/model_builder.cc"
DRIFT = "LiteRT ml_drift_delegate/tflite/model_builder_helper.cc"
# Kinds that CheckGpuDelegateCompatibility accepts, if the rules below do not object. Those that it
# takes in few forms only (GATHER, SELECT, ONE_HOT, CUMSUM, ...) are left out.
SUPPORTED = frozenset(
    """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGISTIC
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG NOT_EQUAL PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX
    REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    ROUND RSQRT SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
    """.split()  # noqa: SIM905 - a list would take 60 lines
)
BROADCASTING = frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"})
SLICES = frozenset({"SLICE", "STRIDED_SLICE"})
PADS = frozenset({"PAD", "PADV2"})


def place(node: Node) -> Placement:
    """Everything that the rules say of one op."""
    return judge(node, RULES)


def _shapes(node: Node) -> list[tuple[int | None, ...]]:
    return [tensor.shape for tensor in node.values() if tensor.shape is not None]


def _is_known(node: Node) -> bool:
    return node.kind in SUPPORTED


def _is_deep(node: Node) -> bool:
    return any(len(shape) > MAX_RANK for shape in _shapes(node))


def _is_not_float(node: Node) -> bool:
    return any(tensor.dtype not in ("float32", "float16") for tensor in node.values())


def _has_batch(node: Node) -> bool:
    return any(len(shape) > 1 and shape[0] != 1 for shape in _shapes(node))


def _moves_batch(node: Node) -> bool:
    return node.kind in ("RESHAPE", "TRANSPOSE") and _has_batch(node)


def _computes_with_batch(node: Node) -> bool:
    return node.kind not in ("RESHAPE", "TRANSPOSE") and _has_batch(node)


def _slices_few_axes(node: Node) -> bool:
    return node.kind in SLICES and any(len(shape) not in (3, 4) for shape in _shapes(node)[:1])


def _pads_three_axes(node: Node) -> bool:
    return node.kind in PADS and any(len(shape) != MAX_RANK for shape in _shapes(node))


def _has_constant_matrix_of_rank_three(node: Node) -> bool:
    y = node.input("y")
    return node.kind == "BATCH_MATMUL" and y is not None and y.constant and y.rank != 2


def _multiplies_low_rank(node: Node) -> bool:
    if node.kind != "BATCH_MATMUL" or len(node.operands()) < 2:
        return False
    return any(len(shape) != MAX_RANK for shape in _shapes(node))


def _is_adjoint(node: Node) -> bool:
    adjoint = any(node.attributes.get(name) for name in ("adjX", "adjY"))
    return node.kind == "BATCH_MATMUL" and adjoint


def _mixes_ranks(node: Node) -> bool:
    shapes = [len(tensor.shape) for tensor in node.operands() if tensor.shape]
    return node.kind in BROADCASTING and len(set(shapes)) > 1


def _adds_broadcast(node: Node) -> bool:
    shapes = [t.shape for tensors in node.inputs.values() for t in tensors if t.shape]
    return (
        node.kind == "ADD"
        and len(shapes) == 2
        and shapes[0] != shapes[1]
        and all(len(shape) == MAX_RANK for shape in shapes)
    )


RULES = (
    Rule(
        "known kind",
        Verdict.RESIDENT,
        _is_known,
        "the delegate's check accepts the kind",
        CHECK,
    ),
    Rule(
        "unknown kind",
        Verdict.NOT_RESIDENT,
        lambda node: not _is_known(node),
        "the delegate's check does not name the kind; BROADCAST_TO (9191), RELU_0_TO_1 (8598) and "
        "GATHER_ND were tried, and refused",
        f"{CHECK}, LiteRT#9191, LiteRT#8598",
    ),
    Rule(
        "rank above 4",
        Verdict.NOT_RESIDENT,
        _is_deep,
        "tensors of five and more axes are not allowed; tried, and refused",
        "LiteRT#2540",
    ),
    Rule(
        "dynamic shape",
        Verdict.NOT_RESIDENT,
        Node.is_dynamic,
        "an axis whose size is known only at run time; unconfirmed for static use of such a file",
        BUILDER,
    ),
    Rule(
        "not float",
        Verdict.AT_RISK,
        _is_not_float,
        "the delegate computes in float; integers are taken in few places, and there quantised",
        BUILDER,
    ),
    Rule(
        "slice of two axes",
        Verdict.NOT_RESIDENT,
        _slices_few_axes,
        "SLICE takes tensors of three or four axes only; ML Drift took two when tried",
        CHECK,
    ),
    Rule(
        "constant matrix",
        Verdict.NOT_RESIDENT,
        _has_constant_matrix_of_rank_three,
        "the older delegate wants two axes of a constant second operand of BATCH_MATMUL; ML Drift "
        "took three and four when tried",
        BUILDER,
    ),
    Rule(
        "computes with a batch",
        Verdict.AT_RISK,
        _computes_with_batch,
        "the first axis is a batch; where it is not 1, the older delegate refuses (tensorflow's "
        "92798) and attention has been wrong (8619); right when tried",
        "tensorflow#92798, LiteRT#8619",
    ),
    Rule(
        "product of low rank",
        Verdict.AT_RISK,
        _multiplies_low_rank,
        "attention as products of rank 3 ran on a Mali GPU, with a correlation of 0.265; of rank 4 "
        "it is right; right when tried",
        "LiteRT#8619",
    ),
    Rule(
        "adjoint product",
        Verdict.AT_RISK,
        _is_adjoint,
        "adj_x and adj_y of BATCH_MATMUL are ignored in 2.1.6; right when tried",
        "LiteRT#8913",
    ),
    Rule(
        "mixed ranks",
        Verdict.AT_RISK,
        _mixes_ranks,
        "a tensor (a, b, c) is taken for batch a, width b, channels c, and so meets one of four "
        "axes at the wrong ones; right when tried",
        f"LiteRT#8980, {DRIFT}",
    ),
    Rule(
        "pad of three axes",
        Verdict.AT_RISK,
        _pads_three_axes,
        "PAD of a tensor of rank 3 returns shifted rows; of rank 4 it is right; both tried, and so",
        "LiteRT#9272",
    ),
    Rule(
        "transposed convolution",
        Verdict.AT_RISK,
        lambda node: node.kind == "TRANSPOSE_CONV",
        "refused on Mali, and on any GPU from version 4 on, which a fused activation needs",
        "litert-samples skills/gpu-clean-conversion, PINTO0309/onnx2tf#640",
    ),
    Rule(
        "moves the first axis",
        Verdict.RESIDENT,
        _moves_batch,
        "only moves data: window partition in this form ran on a Mali GPU as part of Swin; right "
        "when tried",
        "litert-samples image_tagging/conversion/build_swin.py",
    ),
    Rule(
        "broadcast sum",
        Verdict.RESIDENT,
        _adds_broadcast,
        "wrong after BATCH_MATMUL before LiteRT 2.1.6: needs that or newer; right when tried",
        "LiteRT#8593",
    ),
    Rule(
        "sum in float16",
        Verdict.RESIDENT,
        lambda node: node.kind in ("SUM", "MEAN"),
        "SUM accumulates in float16: its total must stay below 65,504",
        "LiteRT#9249",
    ),
)
