"""A graph as `inspect` sees it, in any file format: backends build it, reports read it."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobilesam_export.inspection.placement import Placement

Attribute = str | int | float | bool | tuple[float, ...]


@dataclass(frozen=True)
class Tensor:
    """A value of a graph.

    Attributes:
        name: unique in its graph.
        dtype: "float16", "float32", "int32", "uint4", "bool", ...
        shape: None for an axis whose size is known only when the graph runs; None instead of the
            tuple where not even the rank is known.
        constant: it is stored in the file.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    constant: bool = False

    @property
    def rank(self) -> int | None:
        """Number of axes, if known."""
        return None if self.shape is None else len(self.shape)

    @property
    def elements(self) -> int | None:
        """Number of elements, if known."""
        if self.shape is None:
            return None
        sizes = [size for size in self.shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    @property
    def size_bytes(self) -> int | None:
        """Size in bytes, types below one byte packed; None if unknown."""
        if self.elements is None or (bits := type_bits(self.dtype)) is None:
            return None
        return (self.elements * bits + 7) // 8


@dataclass(frozen=True)
class Node:
    """One op.

    Attributes:
        kind: in the words of the file's format, for instance "conv" or "Conv".
        inputs: parameter -> tensors, constants included.
        outputs: tensors that it produces.
        attributes: small constants by parameter, for instance the axes of a layer_norm.
    """

    kind: str
    inputs: Mapping[str, tuple[Tensor, ...]]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its first output."""
        return self.outputs[0].name

    def operands(self) -> tuple[Tensor, ...]:
        """The inputs that are not constants."""
        return tuple(t for tensors in self.inputs.values() for t in tensors if not t.constant)

    def values(self) -> tuple[Tensor, ...]:
        """What goes in and comes out, without constants."""
        return (*self.operands(), *self.outputs)

    def is_dynamic(self) -> bool:
        """Whether a size of these is known only when the graph runs."""
        return any(tensor.elements is None for tensor in self.values())

    def input(self, parameter: str) -> Tensor | None:
        """The tensor of a parameter, if there is exactly one."""
        tensors = self.inputs.get(parameter, ())
        return tensors[0] if len(tensors) == 1 else None


# An op -> its multiply-accumulates; None where a size is not known.
MacRule = Callable[[Node], int | None]


@dataclass(frozen=True)
class Dialect:
    """The meaning of a file format's kinds of ops, for counting.

    Attributes:
        data_movement: kinds that move data and compute nothing.
        macs: kinds that multiply -> rules that count their products; see `macs`.
        uncounted: kinds that multiply, but for which there is no rule.
    """

    data_movement: frozenset[str]
    macs: Mapping[str, MacRule]
    uncounted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Partitions:
    """A runtime delegate's partitions of a file, as the delegate reports them.

    Attributes:
        delegate: its name, for people.
        count: of partitions that it runs.
        left: kind and first output of each op that stays with the runtime.
    """

    delegate: str
    count: int
    left: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GraphDescription:
    """A graph of one file.

    Attributes:
        path: the file.
        form: what kind of file it is, for people.
        dialect: meaning of its kinds of ops.
        inputs, outputs: the graph's.
        nodes: in the order in which they run; unpacking of compressed weights is not among them.
        constants: as stored.
        residency: a delegate's placement of each node, in their order; None
            without rules.
        delegate: of those rules, for people.
    """

    path: Path
    form: str
    dialect: Dialect
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    constants: tuple[Tensor, ...]
    residency: tuple[Placement, ...] | None = None
    delegate: str = ""

    def activations(self) -> tuple[Tensor, ...]:
        """Inputs, and outputs of all nodes."""
        return (*self.inputs, *(tensor for node in self.nodes for tensor in node.outputs))


def type_bits(dtype: str) -> int | None:
    """Bits of one element as stored or held, None for what has no fixed size (strings)."""
    if dtype == "bool":
        return 8
    match = re.fullmatch(r"(?:b?float|u?int|complex)(\d+).*", dtype)
    return int(match[1]) if match else None
