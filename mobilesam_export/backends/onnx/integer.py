"""Products in int8: float matrix products -> what has int8 kernels.

Weights are int8 of which seven bits are used, symmetric, one scale per output channel; activations
are uint8, one scale and zero point per tensor, fixed by calibration (static) or found at each run
(dynamic). Results come out in float32: the int32 sums are scaled, never rounded to 8 bits again,
because what that would cost is most of the damage (see targets/onnx.toml). Only ONNX's own
operators are written; ONNX Runtime fuses them into QGemm, MatMulIntegerToFloat and
DynamicQuantizeMatMul when it loads a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mobilesam_export.backends.onnx.graph import Array, GraphEditor, Node

Range = tuple[float, float]
MOVING = ("Concat", "Pad", "Reshape", "Slice", "Transpose")  # what can as well be done in bytes
# The sum of two products of uint8 and seven bits fits into 16 bits. Kernels for x86 without VNNI
# add in pairs and clip what does not fit: with eight bits they would give other results.
WEIGHT_BITS = 7
NO_WEIGHT = 1e-9  # an output whose weights are all smaller has none; as scales they overflow


@dataclass(frozen=True)
class Quantized:
    """Names of a tensor in uint8, of its scale and of its zero point."""

    tensor: str
    scale: str
    zero: str


def linear_layers(graph: GraphEditor) -> list[Node]:
    """Products of an activation and a constant matrix."""
    return [
        node
        for node in graph.nodes
        if node.op_type == "MatMul"
        and node.input[1] in graph.constants
        and graph.constants[node.input[1]].ndim == 2
    ]


def symmetric(weight: Array, axis: int, bits: int = 8) -> tuple[Array, Array]:
    """Whole numbers (int8) and one float32 scale per index of an axis."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = 2 ** (bits - 1) - 1
    peak = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(peak > NO_WEIGHT, peak, 1) / largest
    whole = np.clip(np.round(weight / scale), -largest, largest).astype(np.int8)
    return whole, scale.astype(np.float32).ravel()


def affine(found: Range) -> tuple[Array, Array]:
    """Scale and zero point of uint8 for a range, widened to hold 0, which padding needs exactly."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    scale = max((high - low) / 255, 1e-12)
    return np.array(scale, np.float32), np.array(np.clip(round(-low / scale), 0, 255), np.uint8)


class Integer:
    """Rewrites layers of one graph; a tensor that several take is quantised once.

    Args:
        graph: changed in place.
        ranges: of the roots of what layers take, or None for dynamic ones.
    """

    def __init__(self, graph: GraphEditor, ranges: Mapping[str, Range] | None = None) -> None:
        self.graph = graph
        self.ranges = ranges
        self.made: dict[str, Quantized] = {}

    def linear(self, node: Node, chosen: set[str]) -> None:
        """One matrix product with the bias that is added to it.

        Args:
            node: from `linear_layers`.
            chosen: outputs of all layers that are to be quantised.
        """
        graph = self.graph
        source, weight = node.input
        taken = self._quantize(source, node, chosen)
        matrix = graph.constants[weight]
        whole, scales = symmetric(matrix, axis=1, bits=WEIGHT_BITS)
        output, bias, last = node.output[0], None, node
        add = graph.only_user(output, "Add")
        if add is not None and graph.constants.get(add.input[1], matrix).ndim == 1:
            bias, last, output = add.input[1], add, add.output[0]
        whole_name = graph.constant(f"{weight}/int8", whole)
        if self.ranges is None:
            nodes = self._dynamic(taken, whole_name, scales, bias, output)
        else:
            nodes = self._static(taken, whole_name, scales, bias, output)
        if last is not node:
            graph.replace(node, [])
        graph.replace(last, nodes)

    def _static(
        self, taken: Quantized, whole: str, scales: Array, bias: str | None, output: str
    ) -> list[Node]:
        """DequantizeLinear on both sides of a Gemm (with bias) or MatMul (without)."""
        graph = self.graph
        scale, zero = (
            graph.constant(f"{whole}/scale", scales),
            graph.constant(f"{whole}/zero", np.zeros(len(scales), np.int8)),
        )
        nodes = [
            graph.make("DequantizeLinear", [taken.tensor, taken.scale, taken.zero], f"{output}/in"),
            graph.make("DequantizeLinear", [whole, scale, zero], f"{output}/weight", axis=1),
        ]
        if bias is None:
            return [*nodes, graph.make("MatMul", [f"{output}/in", f"{output}/weight"], output)]
        # Gemm, because only its kernel adds the bias; it takes two axes.
        product_scale = graph.constants[taken.scale] * scales
        sums = np.round(graph.constants[bias] / product_scale).astype(np.int32)
        names = [
            graph.constant(f"{output}/bias", sums),
            graph.constant(f"{output}/bias/scale", product_scale.astype(np.float32)),
            graph.constant(f"{output}/bias/zero", np.zeros(len(sums), np.int32)),
        ]
        rows = graph.constant(f"{output}/rows", np.array([-1, graph.constants[whole].shape[0]]))
        shape = graph.constant(f"{output}/shape", np.array(graph.shapes[output]))
        added = f"{output}/bias/float"
        gemm = [f"{output}/flat", f"{output}/weight", added]
        return [
            *nodes,
            graph.make("DequantizeLinear", names, added, axis=0),
            graph.make("Reshape", [f"{output}/in", rows], f"{output}/flat"),
            graph.make("Gemm", gemm, f"{output}/gemm"),
            graph.make("Reshape", [f"{output}/gemm", shape], output),
        ]

    def _dynamic(
        self, taken: Quantized, whole: str, scales: Array, bias: str | None, output: str
    ) -> list[Node]:
        """MatMulInteger, scaled, in the form that ONNX Runtime fuses."""
        graph = self.graph
        scale = graph.constant(f"{whole}/scale", scales)
        # With an output of its own for the bias, so that the fusion finds it.
        scaled = output if bias is None else f"{output}/scaled"
        nodes = [
            graph.make("MatMulInteger", [taken.tensor, whole, taken.zero], f"{output}/int32"),
            graph.make("Cast", [f"{output}/int32"], f"{output}/float", to=1),
            graph.make("Mul", [taken.scale, scale], f"{output}/scale"),
            graph.make("Mul", [f"{output}/float", f"{output}/scale"], scaled),
        ]
        if bias is not None:
            nodes.append(graph.make("Add", [scaled, bias], output))
        return nodes

    def _quantize(self, source: str, node: Node, chosen: set[str]) -> Quantized:
        """What a layer takes in uint8: quantised before anything that only moves it."""
        if source not in self.made:
            root = self.root(source, chosen)
            if root not in self.made:
                self.made[root] = self._quantizer(root, node)
            found = self.made[root]
            self.made[source] = replace(found, tensor=self._moved(source, root, found, node))
        return self.made[source]

    def _quantizer(self, start: str, node: Node) -> Quantized:
        graph = self.graph
        found = Quantized(f"{start}/uint8", f"{start}/scale", f"{start}/zero")
        if self.ranges is None:
            import onnx

            kind = "DynamicQuantizeLinear"
            outputs = [found.tensor, found.scale, found.zero]
            new = onnx.helper.make_node(kind, [start], outputs, name=f"{start}/{kind}")
        else:
            scale, zero = affine(self.ranges[start])
            graph.constant(found.scale, scale)
            graph.constant(found.zero, zero)
            inputs = [start, found.scale, found.zero]
            new = graph.make("QuantizeLinear", inputs, found.tensor)
        graph.insert_before(node, [new])
        return found

    def root(self, tensor: str, chosen: set[str]) -> str:
        """The one tensor that this is a mere rearrangement of, and that is quantised.

        Args:
            tensor: what a layer takes.
            chosen: outputs of all layers that are to be quantised.
        """
        node = self.graph.producer(tensor)
        if node is None or node.op_type not in MOVING:
            return tensor
        users = self.graph.users(tensor)
        if not all(user.op_type in MOVING or user.output[0] in chosen for user in users):
            return tensor
        roots = {self.root(name, chosen) for name in _operands(node)}
        return roots.pop() if len(roots) == 1 else tensor

    def _moved(self, tensor: str, root: str, found: Quantized, before: Node) -> str:
        """The same rearrangement of bytes; padding, zero in float, is the zero point."""
        if tensor == root:
            return found.tensor
        moved = f"{tensor}/uint8"
        node = self.graph.producer(tensor)
        if node is None or self.graph.producer(moved) is not None:
            return moved
        operands = _operands(node)
        inputs = [self._moved(name, root, found, before) for name in operands]
        if node.op_type == "Pad":
            inputs += [node.input[1], found.zero]
        else:
            inputs += node.input[len(operands) :]
        same = self.graph.make(node.op_type, inputs, moved)
        same.attribute.extend(node.attribute)
        self.graph.insert_before(before, [same])
        return moved


def _operands(node: Node) -> list[str]:
    """What an operator of MOVING moves."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])
