"""Multiply-accumulate operations of a graph, by rules that count products and nothing else.

- convolution: elements of the output x elements of one filter (input channels of a group x kernel).
  Products with zeros of the padding count.
- transposed convolution: elements of the input x elements of one filter. Products that fall into
  a cropped border count.
- matrix product (matmul, linear, Gemm): elements of the output x length of the contracted axis.
- einsum of an ML Program: the same, contracted over the last axis of the first operand.
- scaled_dot_product_attention: its two matrix products.
- TFLite's filters have the output channels first, those of its depthwise convolution last.

Biases, normalisation, softmax, activation functions, pooling and resizing count nothing. Kinds
that multiply, but are not counted here, are named in the result.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobilesam_export.inspection.graph import Node, Tensor

UNCOUNTED = frozenset(
    """
    gru lstm rnn
    Attention ConvInteger DeformConv Einsum GRU LSTM MatMulInteger QLinearConv QLinearMatMul RNN
    com.microsoft.Attention com.microsoft.FusedConv com.microsoft.FusedGemm
    com.microsoft.FusedMatMul com.microsoft.MatMulNBits com.microsoft.MultiHeadAttention
    """.split()  # noqa: SIM905 - a list would take 20 lines
)

Rule = Callable[[Node], int | None]


@dataclass(frozen=True)
class Macs:
    """Result of `count_macs`.

    Attributes:
        total: over all counted ops.
        by_kind: only kinds that can be counted.
        uncounted: names of ops that multiply, but whose kind has no rule or whose size is dynamic.
    """

    total: int
    by_kind: Mapping[str, int]
    uncounted: tuple[str, ...]


def count_macs(nodes: tuple[Node, ...]) -> Macs:
    """Count every op of a graph."""
    by_kind: dict[str, int] = {}
    uncounted = [node.name for node in nodes if node.kind in UNCOUNTED]
    for node in nodes:
        if node.kind not in RULES:
            continue
        macs = RULES[node.kind](node)
        if macs is None:
            uncounted.append(node.name)
        else:
            by_kind[node.kind] = by_kind.get(node.kind, 0) + macs
    return Macs(sum(by_kind.values()), by_kind, tuple(uncounted))


def _convolution(of: str) -> Rule:
    """Rule for weights of (filters, channels of a group, *kernel)."""

    def rule(node: Node) -> int | None:
        return _times(node.outputs[0].elements, _filter_elements(node.input(of)))

    return rule


def _transposed_convolution(x: str, of: str) -> Rule:
    """Rule for weights of (input channels, output channels of a group, *kernel)."""

    def rule(node: Node) -> int | None:
        source = node.input(x)
        return _times(source.elements if source else None, _filter_elements(node.input(of)))

    return rule


def _product(x: str, y: str) -> Rule:
    """Rule for x @ y, either of them transposed or not."""

    def rule(node: Node) -> int | None:
        left, right, result = node.input(x), node.input(y), node.outputs[0]
        if left is None or right is None or not left.shape or not right.shape:
            return None
        if len(left.shape) == 1:
            return _times(result.elements, left.shape[0])
        if len(right.shape) == 1:
            return _times(result.elements, right.shape[0])
        if not result.shape:
            return None
        # (M, K) in either order, divided by M.
        rows = result.shape[-2]
        both = _times(left.shape[-2], left.shape[-1])
        return _times(result.elements, both // rows if both is not None and rows else None)

    return rule


def _linear(node: Node) -> int | None:
    weight = node.input("weight")
    depth = weight.shape[-1] if weight and weight.shape else None
    return _times(node.outputs[0].elements, depth)


def _einsum(node: Node) -> int | None:
    """For "nchw,nwhu->nchu" and "chw,whr->chr", all that ML Programs have."""
    left = node.inputs.get("values", (None,))[0]
    return _times(node.outputs[0].elements, left.shape[-1] if left and left.shape else None)


def _attention(node: Node) -> int | None:
    query, key, value = (node.input(name) for name in ("query", "key", "value"))
    if not (query and key and value and query.shape and key.shape and value.shape):
        return None
    scores = _times(query.elements, key.shape[-2])
    sums = _times(node.outputs[0].elements, key.shape[-2])
    return None if scores is None or sums is None else scores + sums


def _filter_elements(weight: Tensor | None) -> int | None:
    if weight is None or not weight.shape:
        return None
    sizes = [size for size in weight.shape[1:] if size is not None]
    return math.prod(sizes) if len(sizes) == len(weight.shape) - 1 else None


def _times(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b


def _depthwise(node: Node) -> int | None:
    """Filters of (1, *kernel, channels), as TFLite has them."""
    weight = node.input("filter")
    if weight is None or not weight.shape:
        return None
    kernel = [size for size in weight.shape[:-1] if size is not None]
    taps = math.prod(kernel) if len(kernel) == len(weight.shape) - 1 else None
    return _times(node.outputs[0].elements, taps)


def _tflite_transposed(node: Node) -> int | None:
    """Filters of (output channels, *kernel, input channels)."""
    source, weight = node.input("input"), node.input("filter")
    if source is None or weight is None or not weight.shape:
        return None
    sizes = [size for size in weight.shape[:-1] if size is not None]
    each = math.prod(sizes) if len(sizes) == len(weight.shape) - 1 else None
    return _times(source.elements, each)


def _batch_product(node: Node) -> int | None:
    """TFLite's matrix product, whose operands may be stored transposed."""
    left = node.input("x")
    if left is None or not left.shape:
        return None
    depth = left.shape[-2] if node.attributes.get("adjX") else left.shape[-1]
    return _times(node.outputs[0].elements, depth)


def _fully_connected(node: Node) -> int | None:
    weight = node.input("weights")
    depth = weight.shape[-1] if weight and weight.shape else None
    return _times(node.outputs[0].elements, depth)


RULES: Mapping[str, Rule] = {
    "BATCH_MATMUL": _batch_product,
    "CONV_2D": _convolution("filter"),
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _tflite_transposed,
    "conv": _convolution("weight"),
    "Conv": _convolution("W"),
    "conv_transpose": _transposed_convolution("x", "weight"),
    "ConvTranspose": _transposed_convolution("X", "W"),
    "linear": _linear,
    "Gemm": _product("A", "B"),
    "matmul": _product("x", "y"),
    "MatMul": _product("A", "B"),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
