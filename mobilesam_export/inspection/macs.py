"""Multiply-accumulate operations of a graph, by rules that count products and nothing else.

- convolution: elements of the output x elements of one filter (input channels of a group x kernel).
  Products with zeros of the padding count.
- transposed convolution: elements of the input x elements of one filter. Products that fall into
  a cropped border count.
- matrix product: elements of the output x length of the contracted axis.

The dialect of a file format names these kinds, and has its own rules where its ops
store their operands differently. Biases, normalisation, softmax, activation functions, pooling and
resizing count as zero. Kinds that multiply, but have no rule, are named in the result.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mobilesam_export.inspection.graph import Dialect, MacRule, Node, Tensor


@dataclass(frozen=True)
class Macs:
    """Result of `count_macs`.

    Attributes:
        total: over all counted ops.
        by_kind: of the kinds that can be counted.
        uncounted: names of ops that multiply, but whose kind has no rule or whose size is dynamic.
    """

    total: int
    by_kind: Mapping[str, int]
    uncounted: tuple[str, ...]


def count_macs(nodes: tuple[Node, ...], dialect: Dialect) -> Macs:
    """Count every op of a graph whose kinds are those of `dialect`."""
    by_kind: dict[str, int] = {}
    uncounted = [node.name for node in nodes if node.kind in dialect.uncounted]
    for node in nodes:
        if node.kind not in dialect.macs:
            continue
        macs = dialect.macs[node.kind](node)
        if macs is None:
            uncounted.append(node.name)
        else:
            by_kind[node.kind] = by_kind.get(node.kind, 0) + macs
    return Macs(sum(by_kind.values()), by_kind, tuple(uncounted))


def convolution(of: str) -> MacRule:
    """Rule for weights of (filters, channels of a group, *kernel)."""

    def rule(node: Node) -> int | None:
        return times(node.outputs[0].elements, _filter_elements(node.input(of)))

    return rule


def transposed_convolution(x: str, of: str) -> MacRule:
    """Rule for weights of (input channels, output channels of a group, *kernel)."""

    def rule(node: Node) -> int | None:
        source = node.input(x)
        return times(source.elements if source else None, _filter_elements(node.input(of)))

    return rule


def product(x: str, y: str) -> MacRule:
    """Rule for x @ y, either of them transposed or not."""

    def rule(node: Node) -> int | None:
        a, b, result = node.input(x), node.input(y), node.outputs[0]
        if a is None or b is None or not a.shape or not b.shape:
            return None
        if len(a.shape) == 1:
            return times(result.elements, a.shape[0])
        if len(b.shape) == 1:
            return times(result.elements, b.shape[0])
        if not result.shape:
            return None
        # (M, K) in either order, divided by M.
        rows = result.shape[-2]
        elements = times(a.shape[-2], a.shape[-1])
        return times(result.elements, elements // rows if elements is not None and rows else None)

    return rule


def _filter_elements(weight: Tensor | None) -> int | None:
    if weight is None or not weight.shape:
        return None
    sizes = [size for size in weight.shape[1:] if size is not None]
    return math.prod(sizes) if len(sizes) == len(weight.shape) - 1 else None


def without_last_axis(weight: Tensor | None) -> int | None:
    """Product of the sizes of all axes but the last; None where one is not known."""
    if weight is None or not weight.shape:
        return None
    sizes = [size for size in weight.shape[:-1] if size is not None]
    return math.prod(sizes) if len(sizes) == len(weight.shape) - 1 else None


def times(a: int | None, b: int | None) -> int | None:
    """The product, or None where a factor is not known."""
    return None if a is None or b is None else a * b
