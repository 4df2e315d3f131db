"""An ExecuTorch program -> its description, by executorch's readers; nothing is run."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilesam_export.backends.executorch.delegates import DEFAULT, DELEGATES, delegates_of
from mobilesam_export.backends.executorch.dialect import DIALECT
from mobilesam_export.backends.executorch.program import METHOD, check_whole
from mobilesam_export.errors import BackendError, BundleError
from mobilesam_export.inspection.graph import GraphDescription, Node, Partitions, Tensor
from mobilesam_export.quiet import quiet_descriptors

PROGRAM = "ExecuTorch program"
NONE = 2**32 - 1  # of XNNPACK's ids: no such value
PREFIX = "XNN"
INFINITE = re.compile(r": (-?inf)\b")  # as flatc writes the missing bound of an activation
TYPES = {
    **{"BYTE": "uint8", "CHAR": "int8", "INT": "int32", "LONG": "int64", "HALF": "float16"},
    **{"FLOAT": "float32", "DOUBLE": "float64", "BOOL": "bool"},
}
XNN_TYPES = {
    **{"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "qcint8": "int8"},
    **{"qdint8": "int8", "qint8": "int8", "quint8": "uint8", "qint32": "int32"},
    **{"qcint32": "int32", "qcint4": "int4", "qbint4": "int4"},
}


@dataclass(frozen=True)
class Program:
    """A file's graph, and how it was cut for the delegate when it was made."""

    description: GraphDescription
    partitions: Partitions


def read(path: Path) -> Program:
    """Describe a .pte file.

    Raises:
        BundleError: it is damaged, or no ExecuTorch program.
        BackendError: it is of another version, or has control flow.
    """
    content = check_whole(path)
    with quiet_descriptors():
        from executorch.exir._serialize._program import deserialize_pte_binary

        try:
            program = deserialize_pte_binary(content).program
            (plan,) = (plan for plan in program.execution_plan if plan.name == METHOD)
            reader = _Reader(path, plan, program.backend_delegate_data)
            for chain in plan.chains:
                for instruction in chain.instructions:
                    reader.read(instruction.instr_args)
        except BackendError:
            raise
        except Exception as exc:  # whatever flatc and executorch say of wrong bytes
            raise BundleError(f"{path} is damaged ({type(exc).__name__}); export it again") from exc
    found = delegates_of(content)
    closed = [item.name for item in found if item != DELEGATES[DEFAULT]]
    form = f"ExecuTorch program (ops of {', '.join(closed)} as one)" if closed else PROGRAM
    return Program(
        GraphDescription(
            path=path,
            form=form,
            dialect=DIALECT,
            inputs=tuple(reader.tensors[index] for index in plan.inputs),
            outputs=tuple(reader.tensors[index] for index in plan.outputs),
            nodes=tuple(reader.nodes),
            constants=tuple(reader.constants),
        ),
        Partitions(", ".join(item.name for item in found), reader.count, tuple(reader.left)),
    )


@dataclass
class _Reader:
    """Collects what instructions do, those of delegates taken apart.

    Attributes:
        path: of the file, for messages.
        plan: of the method.
        data: of all delegates.
        tensors: by the plan's index.
    """

    path: Path
    plan: Any
    data: Any
    tensors: dict[int, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        for index, value in enumerate(self.plan.values):
            if type(value.val).__name__ == "Tensor":
                constant = value.val.data_buffer_idx > 0
                kind = TYPES.get(value.val.scalar_type.name, "unknown")
                shape = tuple(value.val.sizes)
                self.tensors[index] = Tensor(f"value_{index}", kind, shape, constant)
        self.constants += [tensor for tensor in self.tensors.values() if tensor.constant]

    def read(self, arguments: Any) -> None:
        """One instruction, by its arguments."""
        kind = type(arguments).__name__
        if kind not in ("KernelCall", "DelegateCall"):
            raise BackendError(f"{self.path} has an instruction {kind}; that is not inspected")
        if kind == "KernelCall":
            operator = self.plan.operators[arguments.op_index]
            self._add(operator.name.partition("::")[2], arguments.args)
            return
        delegate = self.plan.delegates[arguments.delegate_index]
        self.count += 1
        if delegate.id != DELEGATES[DEFAULT].backend:
            self._add_closed(delegate.id, arguments.args)
            return
        graph = _xnn_graph(bytes(self.data[delegate.processed.index].data))
        self._take_apart(graph, arguments.args)

    def _add(self, kind: str, arguments: list[int]) -> None:
        """An operation of the runtime: its result is its last argument, once or twice."""
        results = self._tensors(arguments[-1])
        found = [tensor for index in arguments[:-1] for tensor in self._tensors(index)]
        inputs = [tensor for tensor in found if tensor not in results]
        self.nodes.append(Node(kind, {str(i): (t,) for i, t in enumerate(inputs)}, results))
        self.left.append((kind, results[0].name))

    def _add_closed(self, kind: str, arguments: list[int]) -> None:
        """A delegate's partition as one operation: its results are what nothing made before.

        What it computes in between is one more, of unknown size, so that no sum leaves it out.
        """
        made = {tensor for node in self.nodes for tensor in node.outputs}
        made |= {self.tensors[index] for index in self.plan.inputs} | set(self.constants)
        tensors = [tensor for index in arguments for tensor in self._tensors(index)]
        inputs = [tensor for tensor in tensors if tensor in made]
        results = tuple(tensor for tensor in tensors if tensor not in made)
        inside = Tensor(f"inside {kind} {self.count}", "unknown", None)
        named = {str(i): (t,) for i, t in enumerate(inputs)}
        self.nodes.append(Node(kind, named, (*results, inside)))

    def _tensors(self, index: int) -> tuple[Tensor, ...]:
        """A tensor, those of a list, or none where the value is no tensor."""
        if index in self.tensors:
            return (self.tensors[index],)
        value = self.plan.values[index].val
        items = value.items if type(value).__name__ == "TensorList" else ()
        return tuple(self.tensors[item] for item in items)

    def _take_apart(self, graph: Mapping[str, Any], arguments: list[int]) -> None:
        tensors = {}
        for item in graph["xvalues"]:
            value = item["xvalue_union"].get("tensor_value", item["xvalue_union"])
            if value["external_id"] != NONE:
                tensors[value["id_out"]] = self.tensors[arguments[value["external_id"]]]
                continue
            kind = value["datatype"].removeprefix("xnn_datatype_")
            constant = value["constant_buffer_idx"] > 0
            name = f"{PREFIX.lower()}{self.count}_{value['id_out']}"
            tensor = Tensor(name, XNN_TYPES.get(kind, kind), tuple(value["dims"]), constant)
            tensors[value["id_out"]] = tensor
            if constant:
                self.constants.append(tensor)
        for item in graph["xnodes"]:
            node = item["xnode_union"]
            inputs = {
                key.removesuffix("_id"): (tensors[value],)
                for key, value in node.items()
                if key.endswith("_id") and key != "output_id" and value in tensors
            }
            kind = item["xnode_union_type"].removeprefix(PREFIX).removeprefix("Static")
            self.nodes.append(Node(kind, inputs, (tensors[node["output_id"]],)))


def _xnn_graph(data: bytes) -> dict[str, Any]:
    """What ExecuTorch's XNNPACK delegate was given, as its schema has it."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import (
        XNNHeader,
        _get_schema_bytes,
    )
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(data[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "schema.fbs").write_bytes(_get_schema_bytes())
        (folder / "graph.bin").write_bytes(data[start : start + header.flatbuffer_size])
        _flatc_decompile(name, str(folder / "schema.fbs"), str(folder / "graph.bin"))
        text = (folder / "graph.json").read_text(encoding="utf-8")
        graph: dict[str, Any] = json.loads(INFINITE.sub(r': "\1"', text))
    return graph
