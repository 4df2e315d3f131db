"""An ONNX model as a graph to be edited: producers and consumers of tensors, shapes, constants."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Node = Any  # protobuf's generated classes are untyped
Array = NDArray[Any]


class GraphEditor:
    """A copy of a model with every shape known, and its nodes in order.

    Attributes:
        model: the copy; written to by `finish`.
        nodes: to be changed freely, by `insert_before` and `remove` where order matters.
        constants: arrays by name.
    """

    def __init__(self, model: Node) -> None:
        import onnx
        from onnx import numpy_helper

        self.model = copy.deepcopy(model)
        inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self.nodes: list[Node] = list(self.model.graph.node)
        graph = self.model.graph
        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.outputs = [item.name for item in graph.output]

    def producer(self, tensor: str) -> Node | None:
        """The node that computes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def users(self, tensor: str) -> list[Node]:
        """The consumers of a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def only_user(self, tensor: str, kind: str) -> Node | None:
        """The only consumer of a tensor, if it is of this kind and the tensor is no output."""
        users = self.users(tensor)
        alone = len(users) == 1 and users[0].op_type == kind and tensor not in self.outputs
        return users[0] if alone else None

    def constant(self, name: str, value: Array) -> str:
        """Add a constant, or take the one of this name again; its name."""
        self.constants.setdefault(name, np.asarray(value))
        return name

    def make(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> Node:
        """A node with one output, named for it."""
        import onnx

        return onnx.helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)

    def insert_before(self, node: Node, new: Sequence[Node]) -> None:
        """Put nodes in front of a node."""
        index = self._index(node)
        self.nodes[index:index] = new

    def replace(self, node: Node, new: Sequence[Node]) -> None:
        """Put nodes in the place of a node."""
        self.insert_before(node, new)
        del self.nodes[self._index(node)]

    def redirect(self, old: str, new: str, where: Callable[[Node], bool] | None = None) -> None:
        """Let the consumers of one tensor (all, or where it is true) take another."""
        for node in self.users(old):
            if where is None or where(node):
                node.input[:] = [new if name == old else name for name in node.input]

    def finish(self) -> Node:
        """The edited model, with dead nodes removed."""
        from onnx import numpy_helper

        needed, kept = {*self.outputs}, []
        for node in reversed(self.nodes):
            if needed & {*node.output}:
                kept.append(node)
                needed |= {*node.input}
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
        used = [name for name in self.constants if name in needed]
        graph.initializer.extend(numpy_helper.from_array(self.constants[n], n) for n in used)
        domains = {item.domain for item in self.model.opset_import}
        for domain in sorted({node.domain for node in kept} - domains - {""}):
            self.model.opset_import.add(domain=domain, version=1)
        return self.model

    def _index(self, node: Node) -> int:
        return next(index for index, item in enumerate(self.nodes) if item is node)


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    import onnx

    found = [onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name]
    return found[0] if found else default
