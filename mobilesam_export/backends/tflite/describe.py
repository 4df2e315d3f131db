"""A TFLite file -> its description, read by TFLite's schema; nothing is run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilesam_export.backends.tflite import gpu_delegate
from mobilesam_export.backends.tflite.dialect import DIALECT
from mobilesam_export.errors import BackendError, BundleError
from mobilesam_export.inspection.graph import Attribute, GraphDescription, Node, Tensor
from mobilesam_export.quiet import quiet

IDENTIFIER = b"TFL3"
# Inputs that rules and counts look at, by the op; all others are numbered.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "BATCH_MATMUL": ("x", "y"),
    "CONV_2D": ("input", "filter", "bias"),
    "DEPTHWISE_CONV_2D": ("input", "filter", "bias"),
    "FULLY_CONNECTED": ("input", "weights", "bias"),
    "TRANSPOSE_CONV": ("output_shape", "filter", "input", "bias"),
}


def describe_tflite(path: Path) -> GraphDescription:
    """Describe a .tflite file.

    Raises:
        BundleError: it is damaged or no TFLite file.
        BackendError: it has several subgraphs, so control flow.
    """
    model = _load(path)
    if len(model.subgraphs) != 1:
        raise BackendError(
            f"{path} has {len(model.subgraphs)} subgraphs; files with control flow are not "
            "inspected"
        )
    graph = model.subgraphs[0]
    try:
        kinds = [_kind(code) for code in model.operatorCodes]
        tensors = [_tensor(tensor, model.buffers) for tensor in graph.tensors]
        stored = tuple(tensor for tensor in tensors if tensor.constant)
        nodes = _nodes(graph, kinds, tensors)
        return GraphDescription(
            path=path,
            form=f"TFLite schema {model.version}",
            dialect=DIALECT,
            inputs=tuple(tensors[index] for index in graph.inputs),
            outputs=tuple(tensors[index] for index in graph.outputs),
            nodes=nodes,
            constants=stored,
            residency=tuple(gpu_delegate.place(node) for node in nodes),
            delegate="GPU delegates",
        )
    except (IndexError, TypeError, AttributeError, ValueError) as exc:
        raise BundleError(f"{path} is damaged: {exc}; export it again") from exc


def _load(path: Path) -> Any:
    with quiet():
        from mobilesam_export.backends.tflite import model_file
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc})") from exc
    if content[4:8] != IDENTIFIER:
        raise BundleError(f"{path} is no TFLite file: it lacks the identifier TFL3")
    try:
        model = model_file.read(content)
    except Exception as exc:  # flatbuffers checks nothing: whatever Python says of wrong offsets
        raise BundleError(f"{path} is damaged ({type(exc).__name__}); export it again") from exc
    if not model.subgraphs or not model.buffers or not model.operatorCodes:
        raise BundleError(f"{path} is damaged: it has no graph; export it again")
    return model


def _kind(code: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM.{code.customCode.decode()}"
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return str(names.get(builtin, f"OPERATOR_{builtin}"))


def _tensor(tensor: Any, buffers: Any) -> Tensor:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items()}
    shape = [] if tensor.shape is None else list(tensor.shape)
    if tensor.shapeSignature is not None:
        shape = list(tensor.shapeSignature)
    sizes = tuple(None if size < 0 else int(size) for size in shape)
    constant = buffers[tensor.buffer].data is not None
    name = tensor.name.decode("utf-8", "replace")
    return Tensor(name, str(names.get(tensor.type, "unknown")).lower(), sizes, constant)


def _nodes(graph: Any, kinds: list[str], tensors: list[Tensor]) -> tuple[Node, ...]:
    """All ops but the unpacking of constants, whose results then are constants, too."""
    found = []
    for item in graph.operators:
        if kinds[item.opcodeIndex] == "DEQUANTIZE" and tensors[item.inputs[0]].constant:
            (made,) = item.outputs
            tensors[made] = replace(tensors[made], constant=True)
            continue
        found.append(_node(item, kinds, tensors))
    return tuple(found)


def _node(item: Any, kinds: list[str], tensors: list[Tensor]) -> Node:
    kind = kinds[item.opcodeIndex]
    known = PARAMETERS.get(kind, ())
    inputs = {
        known[place] if place < len(known) else str(place): (tensors[index],)
        for place, index in enumerate(item.inputs)
        if index >= 0  # -1: an optional input that is not given
    }
    outputs = tuple(tensors[index] for index in item.outputs)
    return Node(kind, inputs, outputs, _attributes(item.builtinOptions))


def _attributes(options: Any) -> dict[str, Attribute]:
    """Numbers and flags of an op, in the words of the schema."""
    found = vars(options) if options is not None else {}
    return {key: value for key, value in found.items() if isinstance(value, int | float | str)}
