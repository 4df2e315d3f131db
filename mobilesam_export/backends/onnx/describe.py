"""An ONNX file -> its description, by onnx's shape inference."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilesam_export.backends.onnx.dialect import DIALECT
from mobilesam_export.errors import BackendError, BundleError, first_line
from mobilesam_export.inspection.graph import GraphDescription, Node, Tensor
from mobilesam_export.quiet import quiet

Message = Any  # protobuf's generated classes are untyped


def describe_onnx(path: Path) -> GraphDescription:
    """Describe an .onnx file.

    Raises:
        BundleError: it is damaged, or the file of its weights is missing.
        BackendError: it has control flow or sparse weights.
    """
    model = _load(path)
    graph = model.graph
    if graph.sparse_initializer:
        raise BackendError(f"{path} has sparse weights; files with these are not inspected")
    opsets = {item.domain: item.version for item in model.opset_import}
    tensors = _tensors(graph)
    nodes = []
    for message in graph.node:
        if message.op_type == "Constant":
            continue
        if any(attribute.type in (5, 10) for attribute in message.attribute):  # GRAPH, GRAPHS
            raise BackendError(
                f"{path} has the op {message.op_type} ({message.output[0]}), which holds a graph; "
                "files with control flow are not inspected"
            )
        nodes.append(_node(message, tensors, opsets))
    return GraphDescription(
        path=path,
        form=f"ONNX opset {opsets.get('', 0)}",
        dialect=DIALECT,
        inputs=tuple(tensors[i.name] for i in graph.input if not tensors[i.name].constant),
        outputs=tuple(tensors[item.name] for item in graph.output),
        nodes=tuple(nodes),
        constants=tuple(tensor for tensor in tensors.values() if tensor.constant),
    )


def _load(path: Path) -> Message:
    """The checked model, functions inlined, with every shape that can be inferred."""
    with quiet():
        import onnx
        import onnx.inliner
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc})") from exc
    except (
        DecodeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as exc:
        raise BundleError(
            f"{path} is damaged or no ONNX file: {first_line(exc)}; export it again"
        ) from exc


def _tensors(graph: Message) -> Mapping[str, Tensor]:
    """Every value by name."""
    tensors = {info.name: _value(info) for info in (*graph.value_info, *graph.input, *graph.output)}
    stored = {item.name: item for item in graph.initializer}
    for message in graph.node:
        for name in message.output:
            tensors.setdefault(name, Tensor(name, "unknown", None))
        if message.op_type == "Constant":
            for name in message.output:  # of known shape even where numbers are an attribute
                tensors[name] = replace(tensors[name], constant=True)
            values = [item.t for item in message.attribute if item.name == "value"]
            stored.update(zip(message.output, values, strict=False))
    for name, item in stored.items():
        tensors[name] = Tensor(name, _dtype(item.data_type), tuple(item.dims), constant=True)
    return tensors


def _value(info: Message) -> Tensor:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return Tensor(info.name, _dtype(tensor.elem_type), None)
    fixed = [d.WhichOneof("value") == "dim_value" and d.dim_value >= 0 for d in tensor.shape.dim]
    sizes = [d.dim_value if f else None for d, f in zip(tensor.shape.dim, fixed, strict=True)]
    return Tensor(info.name, _dtype(tensor.elem_type), tuple(sizes))


def _dtype(number: int) -> str:
    """The word of numpy for an ONNX type, of ONNX where numpy has none."""
    import onnx

    words = {value: name.lower() for name, value in onnx.TensorProto.DataType.items()}
    name = str(words.get(number, "unknown"))
    return {"float": "float32", "double": "float64"}.get(name, name)


def _node(message: Message, tensors: Mapping[str, Tensor], opsets: Mapping[str, int]) -> Node:
    names = _parameters(message, opsets)
    inputs = {names[index]: (tensors[name],) for index, name in enumerate(message.input) if name}
    kind = message.op_type
    if message.domain not in ("", "ai.onnx"):
        kind = f"{message.domain}.{kind}"
    return Node(kind, inputs, tuple(tensors[name] for name in message.output if name))


def _parameters(message: Message, opsets: Mapping[str, int]) -> list[str]:
    """A name for each input: the schema's, and numbers where it has none."""
    import onnx

    numbers = [str(index) for index in range(len(message.input))]
    version = opsets.get(message.domain, 0)
    if not onnx.defs.has(message.op_type, version, message.domain):
        return numbers
    schema = onnx.defs.get_schema(message.op_type, version, message.domain)
    single = onnx.defs.OpSchema.FormalParameterOption
    known = [item.name for item in schema.inputs if item.option != single.Variadic]
    return [*known, *numbers][: len(numbers)]
