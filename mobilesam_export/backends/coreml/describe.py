"""A Core ML package -> its description with Neural Engine verdicts, by `mil`'s reader."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilesam_export.backends.coreml.dialect import DIALECT
from mobilesam_export.backends.coreml.neural_engine import place
from mobilesam_export.inspection.graph import Attribute, GraphDescription, Node, Tensor
from mobilesam_export.mil.constants import Constant
from mobilesam_export.mil.program import OPSETS, Operation, Program, Value, read_program

SMALL = 16  # elements of a constant that is a parameter, not a weight


def describe_package(path: Path) -> GraphDescription:
    """Describe an .mlpackage.

    Raises:
        BundleError: it is damaged or no package.
        BackendError: it holds something other than one ML Program of iOS 16, 17 or 18.
    """
    program = read_program(path)
    tensors = _tensors(program)
    nodes = tuple(
        _node(operation, tensors, program)
        for operation in program.operations
        if not operation.kind.startswith("constexpr_")
    )
    return GraphDescription(
        path=path,
        form=f"ML Program for {OPSETS[program.opset]}",
        dialect=DIALECT,
        inputs=tuple(tensors[value.name] for value in program.inputs),
        outputs=tuple(tensors[name] for name in program.outputs),
        nodes=nodes,
        constants=tuple(_tensor(value, constant=True) for value, _ in program.constants.values()),
        residency=tuple(place(node) for node in nodes),
        delegate="Neural Engine",
    )


def _tensors(program: Program) -> Mapping[str, Tensor]:
    """Every value by name; what is made of compressed weights alone is a constant."""
    tensors = {value.name: _tensor(value) for value in program.inputs}
    for value, _ in program.constants.values():
        tensors[value.name] = _tensor(value, constant=True)
    for operation in program.operations:
        constant = operation.kind.startswith("constexpr_")
        for value in operation.outputs:
            tensors[value.name] = _tensor(value, constant=constant)
    return tensors


def _tensor(value: Value, constant: bool = False) -> Tensor:
    return Tensor(value.name, value.dtype, value.shape, constant)


def _node(operation: Operation, tensors: Mapping[str, Tensor], program: Program) -> Node:
    inputs = {key: tuple(tensors[n] for n in names) for key, names in operation.inputs.items()}
    attributes = {
        key: attribute
        for key, names in operation.inputs.items()
        if len(names) == 1 and names[0] in program.constants
        if (attribute := _attribute(program.constants[names[0]][1])) is not None
    }
    outputs = tuple(tensors[value.name] for value in operation.outputs)
    return Node(operation.kind, inputs, outputs, attributes)


def _attribute(constant: Constant) -> Attribute | None:
    if isinstance(constant, str):
        return constant
    if constant.size > SMALL:
        return None
    values = np.asarray(constant).reshape(-1).tolist()
    return values[0] if constant.ndim == 0 else tuple(values)
