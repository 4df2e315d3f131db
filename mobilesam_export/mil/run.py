"""A program -> its outputs, computed by torch on the CPU, one operation after the other.

Floats are held and computed in float32. In the mode "float16" what a program declares as float16
is rounded to float16 after every operation, so that what overflows becomes infinite; inside an
operation, sums are float32. That is what a device computes to first order. No claim is made about
the kernels of any one chip: their order of summation, their polynomials, their fused operations.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilesam_export.contract import Array
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.mil.images import image_tensor
from mobilesam_export.mil.kernels import Argument, Kernel
from mobilesam_export.mil.ops import KERNELS
from mobilesam_export.mil.program import Operation, Program, Value, read_program

MODES = ("float32", "float16")
FLOATS = ("float16", "float32")
INTEGERS = (
    *("uint1", "uint2", "uint3", "uint4", "uint6", "uint8", "uint16", "uint32"),
    *("int4", "int8", "int16", "int32", "int64"),
)

WIDE = ("int64", "uint32")  # held as int64, all other integers as int32

Observer = Callable[[Operation, Value, Tensor], None]
Around = Callable[[Operation], AbstractContextManager[object]]


@dataclass(frozen=True)
class Step:
    """One operation, ready to run.

    Attributes:
        operation: as the program declares it.
        kernel: its computation.
        last_uses: values that no later step needs.
    """

    operation: Operation
    kernel: Kernel
    last_uses: tuple[str, ...]


def _nothing_around(operation: Operation) -> AbstractContextManager[object]:
    return nullcontext()


class Interpreter:
    """A program with its weights decompressed, ready to run.

    Attributes:
        program: as read.
        mode: "float32" or "float16".
    """

    def __init__(self, program: Program, mode: str = "float32") -> None:
        """Check that every operation is known, and decompress the weights.

        Raises:
            BackendError: there is no such mode, or an operation is unknown.
        """
        if mode not in MODES:
            raise BackendError(
                f"mode {mode!r} is none of the MIL interpreter's: {', '.join(MODES)}"
            )
        self.program = program
        self.mode = mode
        self._check_kinds()
        self._constants: dict[str, Tensor | str] = {
            name: value if isinstance(value, str) else _constant_tensor(value, declared)
            for name, (declared, value) in program.constants.items()
        }
        with torch.inference_mode():
            self._decompress()
        self._steps = self._plan()
        self._forget_unused()

    def run(
        self,
        inputs: Mapping[str, Array],
        observe: Observer | None = None,
        around: Around = _nothing_around,
    ) -> dict[str, Array]:
        """Compute the outputs.

        Args:
            inputs: by name, shaped and typed as the program declares; an image input as
                (1, H, W, 3) uint8 RGB, or (1, H, W, 1) where the program wants a grey image.
            around: gives the context in which each operation is computed, for another arithmetic.
            observe: called with each operation, output and its tensor *before* it is rounded.

        Returns:
            The outputs by name, in the declared types; float16 comes as float32 in mode "float32".
            An output that Core ML would turn into an image is the tensor that it would turn.

        Raises:
            BackendError: an input is missing, too many or of the wrong shape or type, or an
                operation cannot be computed or gives another shape than the program declares.
        """
        with torch.inference_mode():
            values = self._inputs(inputs)
            for step in self._steps:
                with around(step.operation):
                    results = self._compute(step.operation, step.kernel, values)
                for declared, tensor in zip(step.operation.outputs, results, strict=True):
                    if observe is not None:
                        observe(step.operation, declared, tensor)
                    values[declared.name] = self._rounded(tensor, declared, step.kernel)
                for name in step.last_uses:
                    values.pop(name, None)
            return {name: self._output(name, values) for name in self.program.outputs}

    def _check_kinds(self) -> None:
        unknown = {op.kind for op in self.program.operations} - set(KERNELS)
        if unknown:
            raise BackendError(
                f"{self.program.path} has ops that the MIL interpreter does not know: "
                f"{', '.join(sorted(unknown))}; run it with Core ML on a Mac"
            )
        for operation in self.program.operations:
            KERNELS[operation.kind].check(operation.kind, operation.inputs)

    def _decompress(self) -> None:
        """Compute everything that depends on constants only, once."""
        for operation in self.program.operations:
            if operation.kind.startswith("constexpr_"):
                kernel = KERNELS[operation.kind]
                results = self._compute(operation, kernel, self._constants)
                for declared, tensor in zip(operation.outputs, results, strict=True):
                    self._constants[declared.name] = self._rounded(tensor, declared, kernel)

    def _plan(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        needed = set(self.program.outputs)
        for operation in reversed(self.program.operations):
            if operation.kind.startswith("constexpr_"):
                continue
            reads = {name for names in operation.inputs.values() for name in names}
            writes = {value.name for value in operation.outputs}
            last = tuple(sorted((reads | writes) - needed))
            needed |= reads
            steps.append(Step(operation, KERNELS[operation.kind], last))
        return tuple(reversed(steps))

    def _forget_unused(self) -> None:
        """Drop the constants that no step reads, such as compressed weights."""
        operations = [step.operation for step in self._steps]
        reads = {name for op in operations for names in op.inputs.values() for name in names}
        reads |= set(self.program.outputs)
        self._constants = {name: self._constants[name] for name in self._constants if name in reads}

    def _compute(
        self, operation: Operation, kernel: Kernel, values: Mapping[str, Tensor | str]
    ) -> tuple[Tensor, ...]:
        """Outputs of one operation, of the declared shapes and types."""
        label = f"op {operation.kind} ({operation.outputs[0].name}) of {self.program.path.name}"
        try:
            arguments = {key: self._argument(ns, values) for key, ns in operation.inputs.items()}
            results = kernel(arguments)
        except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError) as exc:
            raise BackendError(f"{label} cannot be computed: {first_line(exc)}") from exc
        if len(results) != len(operation.outputs):
            count = len(operation.outputs)
            raise BackendError(f"{label} gives {len(results)} outputs, the program expects {count}")
        pairs = zip(results, operation.outputs, strict=True)
        return tuple(_checked(result, declared, label) for result, declared in pairs)

    def _argument(self, names: tuple[str, ...], values: Mapping[str, Tensor | str]) -> Argument:
        arguments = [values[name] if name in values else self._constants[name] for name in names]
        if len(arguments) == 1:
            return arguments[0]
        return [item for item in arguments if isinstance(item, Tensor)]

    def _rounded(self, tensor: Tensor, declared: Value, kernel: Kernel | None = None) -> Tensor:
        if self.mode != "float16" or declared.dtype != "float16":
            return tensor
        if kernel is not None and kernel.exact:
            return tensor
        return tensor.half().float()

    def _inputs(self, inputs: Mapping[str, Array]) -> dict[str, Tensor | str]:
        names = [value.name for value in self.program.inputs]
        if set(inputs) != set(names):
            raise BackendError(
                f"{self.program.path.name} takes the inputs {', '.join(names)}; "
                f"found {', '.join(inputs) or 'none'}"
            )
        return {value.name: self._input(value, inputs[value.name]) for value in self.program.inputs}

    def _input(self, declared: Value, array: Array) -> Tensor:
        label = f"input {declared.name} of {self.program.path.name}"
        if declared.name in self.program.colors:
            tensor = image_tensor(np.asarray(array), self.program.colors[declared.name], label)
        else:
            tensor = _input_tensor(np.asarray(array), declared, label)
        return self._rounded(_checked(tensor, declared, label), declared)

    def _output(self, name: str, values: Mapping[str, Tensor | str]) -> Array:
        tensor = values[name] if name in values else self._constants[name]
        if not isinstance(tensor, Tensor):
            raise BackendError(f"output {name} of {self.program.path.name} is no tensor")
        dtype = self._declared(name).dtype
        array: Array = tensor.numpy()
        stays_float32 = dtype == "float16" and self.mode == "float32"
        return array.astype(np.float32 if stays_float32 else dtype)

    def _declared(self, name: str) -> Value:
        outputs = [value for op in self.program.operations for value in op.outputs]
        constants = [value for value, _ in self.program.constants.values()]
        values = [*self.program.inputs, *outputs, *constants]
        return next(value for value in values if value.name == name)


def load_program(path: Path, mode: str = "float32") -> Interpreter:
    """Read an .mlpackage and make it ready to run.

    Args:
        path: the package's folder.
        mode: "float32" or "float16", see the module's docstring.

    Raises:
        BundleError: the package is damaged.
        BackendError: it holds no ML Program, one of another system, or unknown operations.
    """
    return Interpreter(read_program(path), mode)


def _constant_tensor(array: Array, declared: Value) -> Tensor:
    """A constant in the form that kernels take."""
    if declared.dtype in FLOATS:
        return torch.from_numpy(np.array(array, np.float32))
    if declared.dtype == "bool":
        return torch.from_numpy(np.array(array, np.bool_))
    if declared.dtype in INTEGERS:
        return torch.from_numpy(np.array(array, np.int64 if declared.dtype in WIDE else np.int32))
    raise BackendError(
        f"constant {declared.name} is {declared.dtype}; the MIL interpreter knows "
        f"{', '.join((*FLOATS, *INTEGERS))} and bool"
    )


def _input_tensor(array: Array, declared: Value, label: str) -> Tensor:
    kinds = {"float": "f", "bool": "b"}.get(declared.dtype.rstrip("0123456789"), "iu")
    if array.dtype.kind not in kinds:
        raise BackendError(f"{label} is {declared.dtype}, found {array.dtype}")
    return _constant_tensor(array, declared)


def _checked(tensor: Tensor, declared: Value, label: str) -> Tensor:
    """The tensor, if it is what the program declares; an integer in the form of `kernels`."""
    same_shape = len(tensor.shape) == len(declared.shape) and all(
        length is None or size == length
        for size, length in zip(tensor.shape, declared.shape, strict=True)
    )
    if not same_shape:
        shape = tuple("?" if size is None else size for size in declared.shape)
        raise BackendError(
            f"{label} has shape {tuple(tensor.shape)}, but the program declares {shape}"
        )
    if declared.dtype in FLOATS and tensor.dtype == torch.float32:
        return tensor
    if declared.dtype == "bool" and tensor.dtype == torch.bool:
        return tensor
    if declared.dtype in INTEGERS and tensor.dtype in (torch.int32, torch.int64):
        return _checked_range(tensor, declared, label)
    raise BackendError(
        f"{label} is {str(tensor.dtype).removeprefix('torch.')}, "
        f"but the program declares {declared.dtype}"
    )


def _checked_range(tensor: Tensor, declared: Value, label: str) -> Tensor:
    bits = int(declared.dtype.lstrip("uint"))
    signed = declared.dtype.startswith("int")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if tensor.numel() and (int(tensor.min()) < low or int(tensor.max()) > high):
        raise BackendError(f"{label} leaves the range of {declared.dtype}")
    return tensor.to(torch.int64 if declared.dtype in WIDE else torch.int32)
