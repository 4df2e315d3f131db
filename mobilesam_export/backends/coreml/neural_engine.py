"""What documents and issues say about Apple's Neural Engine, as rules on single ops of ML Programs.

Nobody outside Apple knows what the compiler does, and it differs between chips and systems. A rule
is what a source says, not a measurement: on a Mac, MLComputePlan and Xcode's report measure. An op
of a kind that no source shows on the Neural Engine is at risk, never silently resident.
"""

from collections.abc import Callable

from mobilesam_export.inspection.graph import Node
from mobilesam_export.inspection.placement import Placement, Verdict
from mobilesam_export.inspection.rules import Rule, judge

MAX_RANK = 5
MAX_AXIS = 16384
GPU_BATCH = 10  # from here on, coremltools#2650 has wrong results
SMALL_ELEMENTS = 2_000_000
NARROW = 16  # elements of float16 that fill half of 64 bytes

DATA_DEPENDENT = frozenset({"non_zero", "non_maximum_suppression"})
INDEXING = frozenset(
    {"gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd"}
)
RECURRENT = frozenset({"gru", "lstm", "rnn"})
# Kinds that Apple's two published transformers for the Neural Engine and their layers are made of,
# as coremltools writes them.
KNOWN = frozenset(
    """
    add avg_pool batch_norm cast concat conv conv_transpose einsum expand_dims gelu layer_norm
    linear matmul max_pool mul pad real_div reduce_mean relu reshape rsqrt sigmoid slice_by_index
    softmax split square squeeze sub transpose
    """.split()  # noqa: SIM905 - a list would take 30 lines
)
TRIGONOMETRY = frozenset({"sin", "cos"})
FUSED_ATTENTION = "scaled_dot_product_attention"
QUANTIZATION = frozenset({"quantize", "dequantize"})
SAID_ELSEWHERE = (
    DATA_DEPENDENT | INDEXING | RECURRENT | TRIGONOMETRY | QUANTIZATION | {FUSED_ATTENTION}
)


def place(node: Node) -> Placement:
    """Everything that the rules say of one op."""
    return judge(node, RULES)


def _has_type(*prefixes: str) -> Callable[[Node], bool]:
    return lambda node: any(tensor.dtype.startswith(prefixes) for tensor in node.values())


def _has_kind(kinds: frozenset[str]) -> Callable[[Node], bool]:
    return lambda node: node.kind in kinds


def _ranks(node: Node) -> list[int]:
    return [tensor.rank for tensor in node.values() if tensor.rank is not None]


def _has_long_axis(node: Node) -> bool:
    axes = [size for tensor in node.values() for size in tensor.shape or ()]
    return any(size is not None and size > MAX_AXIS for size in axes)


def _is_batched_attention(node: Node) -> bool:
    """A product of two activations with a batch axis of `GPU_BATCH` or more."""
    shape = node.outputs[0].shape
    if node.kind not in ("matmul", FUSED_ATTENTION) or len(node.operands()) < 2 or not shape:
        return False
    return len(shape) >= 3 and shape[0] is not None and shape[0] >= GPU_BATCH


def _is_batched_einsum(node: Node) -> bool:
    """An einsum that does many products, one for each entry of the last axis but one."""
    shape = node.outputs[0].shape
    return node.kind == "einsum" and (not shape or shape[-2] != 1)


def _normalizes_no_channels(node: Node) -> bool:
    if node.kind != "layer_norm":
        return False
    axes, rank = node.attributes.get("axes"), node.outputs[0].rank
    if not isinstance(axes, tuple) or not rank:
        return True
    return tuple(axis % rank for axis in axes) != (1,)


def _is_dilated(node: Node) -> bool:
    dilations = node.attributes.get("dilations", ())
    return isinstance(dilations, tuple) and any(dilation != 1 for dilation in dilations)


def _is_small(node: Node) -> bool:
    sizes = [tensor.elements for tensor in node.values()]
    return all(size is not None and size < SMALL_ELEMENTS for size in sizes)


def _is_narrow(node: Node) -> bool:
    axes = [tensor.shape[-1] for tensor in node.outputs if tensor.shape and len(tensor.shape) >= 3]
    return any(axis is not None and axis <= NARROW for axis in axes)


RULES = (
    Rule(
        "known kind",
        Verdict.RESIDENT,
        _has_kind(KNOWN),
        "networks published for the Neural Engine are made of ops of this kind",
        "apple/ml-ane-transformers; apple/ml-vision-transformers-ane",
    ),
    Rule(
        "unknown kind",
        Verdict.AT_RISK,
        lambda node: node.kind not in KNOWN | SAID_ELSEWHERE,
        "not known to the rules",
        "none",
    ),
    Rule(
        "float32",
        Verdict.NOT_RESIDENT,
        _has_type("float32", "float64"),
        "the Neural Engine computes in float16 only; casts at the model's edges count, too",
        "coremltools guide, Typed Execution",
    ),
    Rule(
        "int8 activations",
        Verdict.RESIDENT,
        _has_kind(QUANTIZATION),
        "A17 Pro, M4 and newer compute with int8 weights and activations; others in float16",
        "coremltools guide, Quantization Overview and Performance",
    ),
    Rule(
        "integers",
        Verdict.AT_RISK,
        lambda node: node.kind not in QUANTIZATION and _has_type("int", "uint", "bool")(node),
        "float16 is the only type of activations that the documents name for the Neural Engine",
        "coremltools guide, Typed Execution; hollance/neural-engine docs/16-bit.md",
    ),
    Rule(
        "rank above 5",
        Verdict.NOT_RESIDENT,
        lambda node: max(_ranks(node), default=0) > MAX_RANK,
        "Core ML supports tensors of rank 5 at most",
        "coremltools 9.0 converters/mil/mil/program.py; apple/coremltools#1723, #2291",
    ),
    Rule(
        "rank 5",
        Verdict.AT_RISK,
        lambda node: max(_ranks(node), default=0) == MAX_RANK,
        "networks published for the Neural Engine keep to rank 4",
        "apple/ml-ane-transformers; apple/ml-vision-transformers-ane",
    ),
    Rule(
        "long axis",
        Verdict.NOT_RESIDENT,
        _has_long_axis,
        "an axis has more than 16,384 elements",
        "ncdrone/rustane#13; apple/coremltools#283",
    ),
    Rule(
        "dynamic shape",
        Verdict.AT_RISK,
        Node.is_dynamic,
        "the size is known only at run time, for which the Neural Engine compiles nothing ahead",
        "coremltools guide, Flexible Input Shapes; apple/coremltools#1909",
    ),
    Rule(
        "depends on data",
        Verdict.NOT_RESIDENT,
        _has_kind(DATA_DEPENDENT),
        "the shape of the result depends on data",
        "coremltools guide, Flexible Input Shapes: what is compiled ahead has bounded shapes",
    ),
    Rule(
        "gather or scatter",
        Verdict.NOT_RESIDENT,
        _has_kind(INDEXING),
        "layers that look up indices do not run on the Neural Engine",
        "hollance/neural-engine docs/unsupported-layers.md",
    ),
    Rule(
        "recurrent",
        Verdict.NOT_RESIDENT,
        _has_kind(RECURRENT),
        "recurrent layers do not run on the Neural Engine",
        "hollance/neural-engine docs/unsupported-layers.md",
    ),
    Rule(
        "dilated convolution",
        Verdict.AT_RISK,
        _is_dilated,
        "dilated convolutions were seen to leave the Neural Engine",
        "hollance/neural-engine docs/unsupported-layers.md",
    ),
    Rule(
        "attention batch",
        Verdict.AT_RISK,
        _is_batched_attention,
        "attention with a batch of 10 or more is wrong on the GPU (macOS 26.2), where it lands if "
        "it leaves the Neural Engine; CPU and Neural Engine are right",
        "apple/coremltools#2650",
    ),
    Rule(
        "einsum of windows",
        Verdict.AT_RISK,
        _is_batched_einsum,
        "networks published for the Neural Engine have a single entry on the last axis but one",
        "apple/ml-ane-transformers ane_transformers/reference/multihead_attention.py",
    ),
    Rule(
        "fused attention",
        Verdict.AT_RISK,
        _has_kind(frozenset({FUSED_ATTENTION})),
        "several in one program may fail to compile and fall back to the CPU without a word",
        "kasper0406/stablehlo-coreml#89; pytorch/executorch#16144",
    ),
    Rule(
        "layer_norm axis",
        Verdict.AT_RISK,
        _normalizes_no_channels,
        "it normalises over other axes than the channels (axis 1), which is Apple's form",
        "apple/ml-ane-transformers ane_transformers/reference/layer_norm.py",
    ),
    Rule(
        "sine or cosine",
        Verdict.AT_RISK,
        _has_kind(TRIGONOMETRY),
        "float16 is too coarse for large arguments, and in float32 it is an island off the "
        "Neural Engine",
        "hollance/neural-engine docs/16-bit.md; coremltools guide, Typed Execution",
    ),
    Rule(
        "small",
        Verdict.RESIDENT,
        _is_small,
        "nothing it touches has 2,000,000 elements: the way to the Neural Engine may cost more "
        "than it saves",
        "vx-lang/Vx#437",
    ),
    Rule(
        "narrow last axis",
        Verdict.RESIDENT,
        _is_narrow,
        "the last axis is padded to 64 bytes, here to twice the memory or more",
        "machinelearning.apple.com/research/neural-engine-transformers",
    ),
)
