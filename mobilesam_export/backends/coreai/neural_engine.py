"""What Apple's guide to authoring models says about the Neural Engine, as rules on single ops.

Sources are files of github.com/apple/coreai-models (commit 86b363d) below
skills/skills/model-authoring/references. A rule is what a source says, not a measurement: Core AI's
compiler has also left the Neural Engine without an error (apple/coreai-models#205).
"""

from mobilesam_export.inspection.graph import Node
from mobilesam_export.inspection.placement import Placement, Verdict
from mobilesam_export.inspection.rules import Rule, judge

GUIDE = "apple/coreai-models neural_engine_rules.md"
ISSUES = "apple/coreai-models common_issues.md"
MAX_RANK = 5
WIDTH_BYTES = 64  # the last axis is computed in blocks of so many
FLOAT16_BYTES = 2
NEURAL_ENGINE_TYPES = ("float16", "int8", "int16", "bool")
# Kinds that its examples for the Neural Engine are made of, as coreai-torch writes them.
SHOWN = frozenset(
    """
    broadcasting_add broadcasting_mul cast concat conv2d exp layer_norm reshape rms_norm sigmoid
    softmax split squeeze transpose
    """.split()  # noqa: SIM905 - a list would take 15 lines
)
REDUCTIONS = frozenset({"reduce_mean", "reduce_sum"})  # what a norm that is spelled out begins with
FUSED_ATTENTION = "scaled_dot_product_attention"


def place(node: Node) -> Placement:
    """Everything that the rules say of one op."""
    return judge(node, RULES)


def _has_other_type(node: Node) -> bool:
    return any(tensor.dtype not in NEURAL_ENGINE_TYPES for tensor in node.values())


def _has_float32_constant(node: Node) -> bool:
    constants = [t for tensors in node.inputs.values() for t in tensors if t.constant]
    wide = any(tensor.dtype == "float32" for tensor in constants)
    return wide and not _has_other_type(node)


def _has_high_rank(node: Node) -> bool:
    return any((tensor.rank or 0) > MAX_RANK for tensor in node.values())


def _is_misaligned(node: Node) -> bool:
    """A last axis that does not fill whole blocks, in tensors of two axes and more."""
    axes = [tensor.shape[-1] for tensor in node.outputs if tensor.shape and len(tensor.shape) > 1]
    return any(axis is not None and axis * FLOAT16_BYTES % WIDTH_BYTES for axis in axes)


RULES = (
    Rule(
        "known kind",
        Verdict.RESIDENT,
        lambda node: node.kind in SHOWN,
        "the guide's examples for the Neural Engine are made of ops of this kind",
        GUIDE,
    ),
    Rule(
        "unknown kind",
        Verdict.AT_RISK,
        lambda node: node.kind not in SHOWN | REDUCTIONS | {FUSED_ATTENTION},
        "not in the guide's examples",
        "none",
    ),
    Rule(
        "spelled-out norm",
        Verdict.AT_RISK,
        lambda node: node.kind in REDUCTIONS,
        "of steps of a norm the compiler may or may not make one op again",
        f"{GUIDE}, Prefer high-level ops",
    ),
    Rule(
        "type",
        Verdict.NOT_RESIDENT,
        _has_other_type,
        "the Neural Engine takes float16, int8 and int16; others go to the GPU or CPU",
        f"{GUIDE}, Programming Constraints",
    ),
    Rule(
        "float32 constant",
        Verdict.NOT_RESIDENT,
        _has_float32_constant,
        "a float32 literal makes a buffer that the Neural Engine cannot take",
        f"{GUIDE}, Float32 intermediates; {ISSUES}, General rules",
    ),
    Rule(
        "rank above 5",
        Verdict.NOT_RESIDENT,
        _has_high_rank,
        "tensors have five axes at most",
        f"{GUIDE}, Programming Constraints",
    ),
    Rule(
        "dynamic shape",
        Verdict.NOT_RESIDENT,
        Node.is_dynamic,
        "shapes must be fixed",
        f"{GUIDE}, Programming Constraints",
    ),
    Rule(
        "fused attention",
        Verdict.AT_RISK,
        lambda node: node.kind == FUSED_ATTENTION,
        "on the Neural Engine each head is computed by itself; the fused op is for the GPU",
        "apple/coreai-models gpu_rules.md, Native SDPA",
    ),
    Rule(
        "last axis",
        Verdict.RESIDENT,
        _is_misaligned,
        "the last axis is not a multiple of 64 bytes (32 elements of float16): it is padded",
        f"{GUIDE}, Tensor memory alignment",
    ),
)
