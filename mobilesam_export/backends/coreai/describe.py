"""A Core AI asset -> its description, by coreai-core's reader."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobilesam_export.backends.coreai.asset import FUNCTION, open_asset
from mobilesam_export.backends.coreai.dialect import DIALECT, PARAMETERS, UNPACKING
from mobilesam_export.backends.coreai.neural_engine import place
from mobilesam_export.errors import BackendError
from mobilesam_export.inspection.graph import GraphDescription, Node, Tensor
from mobilesam_export.quiet import quiet_descriptors

CONSTANT, CALL = "constant", "invoke"
COMPOSITE = re.compile(r"@(\w+)_[^_\W]+")  # a composite operation's name in that of its graph
TYPES = {"f": "float", "bf": "bfloat", "i": "int", "si": "int", "ui": "uint"}


def describe_asset(path: Path) -> GraphDescription:
    """Describe an .aimodel.

    Raises:
        BundleError: it is damaged, or no asset.
        BackendError: it is of a newer format, or has something other than tensors in it.
    """
    asset = open_asset(path)
    with quiet_descriptors():
        program = asset.program  # the operations live as long as it does
    graph = _main(program)
    block = graph.regions[0].blocks[0]
    *operations, output = block.operations
    reader = _Reader(path, dict(zip(output.operands, _names(graph, "res_attrs"), strict=True)))
    arguments = zip(block.arguments, _names(graph, "arg_attrs"), strict=True)
    inputs = tuple(reader.add(value, name) for value, name in arguments)
    for operation in operations:
        reader.read(operation)
    return GraphDescription(
        path=path,
        form="Core AI asset",
        dialect=DIALECT,
        inputs=inputs,
        outputs=tuple(reader.tensors[value] for value in output.operands),
        nodes=tuple(reader.nodes),
        constants=tuple(reader.constants),
        residency=tuple(place(node) for node in reader.nodes),
        delegate="Neural Engine",
    )


class _Reader:
    """Collects tensors and nodes of a graph in the order of its operations.

    Args:
        path: the file, for messages.
        outputs: the graph's, with their names.
    """

    def __init__(self, path: Path, outputs: Mapping[Any, str]) -> None:
        self.path, self.outputs = path, outputs
        self.tensors: dict[Any, Tensor] = {}
        self.nodes: list[Node] = []
        self.constants: list[Tensor] = []

    def add(self, value: Any, name: str, constant: bool = False) -> Tensor:
        """Take up a value that was not there before."""
        dtype, shape = self._type(value)
        tensor = Tensor(self.outputs.get(value, name), dtype, shape, constant)
        self.tensors[value] = tensor
        return tensor

    def read(self, operation: Any) -> None:
        """One operation: a constant, what unpacks one, or a node."""
        kind = _kind(operation)
        operands = [self.tensors[value] for value in operation.operands]
        constant = kind == CONSTANT or (kind in UNPACKING and all(t.constant for t in operands))
        results = tuple(
            self.add(value, f"{kind}_{len(self.tensors)}", constant) for value in operation.results
        )
        if kind == CONSTANT:
            self.constants.extend(results)
        elif not constant:
            self.nodes.append(Node(kind, dict(_named(kind, operands)), results))

    def _type(self, value: Any) -> tuple[str, tuple[int | None, ...]]:
        from coreai._compiler.ir import RankedTensorType

        if not RankedTensorType.isinstance(value.type):
            raise BackendError(f"{self.path} holds a value of type {value.type}, not a tensor")
        kind = RankedTensorType(value.type)
        sizes = (
            None if kind.is_dynamic_dim(axis) else int(size) for axis, size in enumerate(kind.shape)
        )
        return _dtype(str(kind.element_type)), tuple(sizes)


def _main(program: Any) -> Any:
    for operation in program._module._mlir_module.body.operations:
        if operation.name == "coreai.graph" and _text(operation.attributes["sym_name"]) == FUNCTION:
            return operation
    raise BackendError(f"there is no graph {FUNCTION!r}")  # `open_asset` has seen it


def _names(graph: Any, attribute: str) -> list[str]:
    return [_text(item["coreai.name"]) for item in graph.attributes[attribute]]


def _kind(operation: Any) -> str:
    """Of an operation; a call of a composite operation, such as layer_norm, has its name."""
    kind = str(operation.name).rpartition(".")[2]
    if kind != CALL:
        return kind
    match = COMPOSITE.search(str(operation.attributes["callee"]))
    return match[1] if match else CALL


def _named(kind: str, operands: list[Tensor]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    parameters = PARAMETERS.get(kind, ())
    for index, tensor in enumerate(operands):
        yield parameters[index] if index < len(parameters) else str(index), (tensor,)


def _dtype(element: str) -> str:
    """The name of MLIR's element type: f16 -> float16, ui8 -> uint8, i1 -> bool."""
    if element == "i1":
        return "bool"
    match = re.fullmatch(r"([a-z]+)(\d+)", element)
    return f"{TYPES[match[1]]}{match[2]}" if match and match[1] in TYPES else element


def _text(attribute: Any) -> str:
    return str(attribute).strip('"')
