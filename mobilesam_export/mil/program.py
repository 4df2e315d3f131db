"""A saved Core ML package -> its program: values with declared types, operations, constants.

Nothing is computed here and nothing is left out; numpy only, no torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam_export.errors import BackendError, BundleError
from mobilesam_export.mil.constants import Constant, read_constant
from mobilesam_export.mil.weights import WeightFile
from mobilesam_export.quiet import quiet

# What iOS 16, 17 and 18 (macOS 13, 14 and 15) call their sets of operations.
OPSETS = {"CoreML6": "iOS 16", "CoreML7": "iOS 17", "CoreML8": "iOS 18"}

Message = Any  # protobuf's generated classes are untyped


@dataclass(frozen=True)
class Value:
    """A tensor of a program.

    Attributes:
        name: unique in its program.
        dtype: as declared: "float16", "float32", "int32", "bool", "string", "uint4", ...
        shape: as declared; None where it is known only when the program runs.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One step of a program.

    Attributes:
        kind: the MIL operation, for instance "conv".
        inputs: parameter -> names of values; most parameters have one.
        outputs: the values that it computes.
    """

    kind: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Program:
    """The main function of an ML Program.

    Attributes:
        path: the .mlpackage.
        opset: "CoreML6", "CoreML7" or "CoreML8".
        inputs: of the function.
        colors: "RGB", "BGR" or "GRAYSCALE" of each input that is an image.
        operations: in the order in which they run.
        constants: by name.
        outputs: names of the values that it returns.
    """

    path: Path
    opset: str
    inputs: tuple[Value, ...]
    colors: Mapping[str, str]
    operations: tuple[Operation, ...]
    constants: Mapping[str, tuple[Value, Constant]]
    outputs: tuple[str, ...]


def read_program(path: Path) -> Program:
    """Read an .mlpackage folder.

    Raises:
        BundleError: it is damaged or no package.
        BackendError: it holds something other than one ML Program of iOS 16, 17 or 18.
    """
    model = _model_file(path)
    spec = _parse(model)
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise BackendError(
            f"{path} holds a model of type {kind}; expected an ML Program: "
            'convert it with convert_to="mlprogram"'
        )
    if len(spec.mlProgram.functions) != 1 or "main" not in spec.mlProgram.functions:
        names = ", ".join(map(repr, sorted(spec.mlProgram.functions))) or "none"
        raise BackendError(f"{path} has the functions {names}; expected one, 'main'")
    main = spec.mlProgram.functions["main"]
    if main.opset not in OPSETS or main.opset not in main.block_specializations:
        raise BackendError(
            f"{path} is made for {main.opset!r}; expected {', '.join(OPSETS)} (iOS 16 to 18): "
            "convert it with minimum_deployment_target iOS16, iOS17 or iOS18"
        )
    try:
        program = _Reader(path, model.parent).program(spec, main)
    except (ValueError, IndexError, TypeError) as exc:  # what impossible contents lead to
        raise BundleError(f"specification {model} is damaged; export the package again") from exc
    _check_names(program)
    return program


def _check_names(program: Program) -> None:
    """Check that every value is defined once, before it is used."""
    defined = {value.name for value in program.inputs} | set(program.constants)
    for operation in program.operations:
        for name in [name for names in operation.inputs.values() for name in names]:
            if name not in defined:
                raise _misnamed(program, f"op {operation.kind} uses {name!r}, which no op computes")
        for value in operation.outputs:
            if value.name in defined:
                raise _misnamed(program, f"{value.name!r} is computed twice")
            defined.add(value.name)
    for name in program.outputs:
        if name not in defined:
            raise _misnamed(program, f"no op computes its output {name!r}")


def _misnamed(program: Program, fault: str) -> BundleError:
    return BundleError(f"{program.path} is damaged: {fault}; export the package again")


def _model_file(path: Path) -> Path:
    """Path of the specification, by the manifest."""
    manifest_path = path / "Manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text())
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except OSError as exc:
        raise BundleError(
            f"{path} is no Core ML package: {manifest_path.name} cannot be read ({exc.strerror}); "
            "expected an .mlpackage folder"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{manifest_path} is damaged; export the package again") from exc
    return path / "Data" / _inside(str(item), path)


def _inside(name: str, path: Path) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise BundleError(f"{path} refers to {name}, which is outside of it; export it again")
    return name


def _parse(model: Path) -> Message:
    with quiet():
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        return Model_pb2.Model.FromString(model.read_bytes())
    except OSError as exc:
        raise BundleError(
            f"specification {model} cannot be read ({exc.strerror}); export the package again"
        ) from exc
    except DecodeError as exc:
        raise BundleError(f"specification {model} is damaged; export the package again") from exc


class _Reader:
    """Turns protobuf messages into a `Program`."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._files: dict[str, WeightFile] = {}
        self._constants: dict[str, tuple[Value, Constant]] = {}

    def program(self, spec: Message, main: Message) -> Program:
        block = main.block_specializations[main.opset]
        operations = [op for message in block.operations if (op := self._operation(message))]
        return Program(
            path=self._path,
            opset=main.opset,
            inputs=tuple(self._value(item) for item in main.inputs),
            colors=self._colors(spec),
            operations=tuple(operations),
            constants=self._constants,
            outputs=tuple(_text(name) for name in block.outputs),
        )

    def _colors(self, spec: Message) -> dict[str, str]:
        images = [i for i in spec.description.input if i.type.WhichOneof("Type") == "imageType"]
        return {
            item.name: item.type.imageType.ColorSpace.Name(item.type.imageType.colorSpace)
            for item in images
        }

    def _operation(self, message: Message) -> Operation | None:
        outputs = tuple(self._value(item) for item in message.outputs)
        if not outputs:
            raise BackendError(f"{self._path} has an op {_text(message.type)} without an output")
        if message.type == "const":
            (value,) = outputs
            self._constants[value.name] = (value, self._constant(message.attributes["val"]))
            return None
        if message.blocks:
            raise BackendError(
                f"{self._path} has the op {_text(message.type)} ({outputs[0].name}), which holds a "
                "block; programs with control flow are not evaluated"
            )
        inputs = {
            _text(key): tuple(self._argument(binding) for binding in argument.arguments)
            for key, argument in message.inputs.items()
        }
        # Up to iOS 17 the compressed weights of constexpr ops are attributes, not inputs.
        for key, value in message.attributes.items():
            if key != "name":
                inputs[_text(key)] = (self._inline(value),)
        return Operation(_text(message.type), inputs, outputs)

    def _argument(self, binding: Message) -> str:
        if binding.WhichOneof("binding") == "name":
            return _text(binding.name)
        return self._inline(binding.value)

    def _inline(self, message: Message) -> str:
        """Name for a constant that is written where it is used."""
        name = f"inline constant {len(self._constants)}"
        dtype, shape = _type(message.type, name, self._path)
        self._constants[name] = (Value(name, dtype, shape), self._constant(message))
        return name

    def _constant(self, message: Message) -> Constant:
        dtype, shape = _type(message.type, "a constant", self._path)
        fixed = [size for size in shape if size is not None]
        if len(fixed) != len(shape):
            raise BundleError(f"{self._path} has a constant of unknown shape; export it again")
        if message.WhichOneof("value") != "blobFileValue":
            return read_constant(message.immediateValue, dtype, fixed, self._path)
        blob = message.blobFileValue
        return self._file(blob.fileName).read(blob.offset, dtype, math.prod(fixed)).reshape(fixed)

    def _file(self, name: str) -> WeightFile:
        if name not in self._files:
            relative = _inside(name.removeprefix("@model_path/"), self._path)
            self._files[name] = WeightFile(self._folder / relative)
        return self._files[name]

    def _value(self, message: Message) -> Value:
        name = _text(message.name)
        return Value(name, *_type(message.type, name, self._path))


def _text(name: str) -> str:
    """A name that can be shown in one line."""
    if not name.isprintable():
        raise ValueError(f"{name!r} is no name")
    return name


def _type(message: Message, name: str, path: Path) -> tuple[str, tuple[int | None, ...]]:
    """Declared type and shape."""
    if message.WhichOneof("type") != "tensorType":
        raise BackendError(
            f"{path} has {name} of {message.WhichOneof('type')}; expected tensors only"
        )
    tensor = message.tensorType
    shape = [
        dim.constant.size if dim.WhichOneof("dimension") == "constant" else None
        for dim in tensor.dimensions
    ]
    return _dtype_name(tensor.dataType), tuple(shape)


def _dtype_name(code: int) -> str:
    from coremltools.proto import MIL_pb2

    return str(MIL_pb2.DataType.Name(code)).lower()
