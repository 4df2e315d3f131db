"""What is inside an ONNX file while it runs: the same graph with more outputs."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam_export.contract import Array
from mobilesam_export.session import Visit

BYTES_AT_ONCE = 500_000_000  # of tensors kept in one run; each run compiles the graph anew
UNKNOWN_BYTES = 20_000_000  # what a tensor without a known shape counts as
# What the encoder sees of an image, or the decoder of its embedding; else same for all images.
IMAGES = ("image", "input_image", "image_embeddings")


def largest_activation(path: Path, inputs: dict[str, Array]) -> tuple[str, float]:
    """The float16 tensor with the largest absolute value, before rounding, and that value.

    ONNX Runtime's CPU computes float16 nodes in float32 where it has no float16 kernel, and then
    an overflow that a GPU or NPU would hit does not show in its outputs. It shows here.

    Returns:
        A tensor's name and its value; ("", 0.0) where no tensor is float16.
    """
    import onnx
    import onnxruntime

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    made = {name for node in model.graph.node for name in node.output}
    half = [
        info.name
        for info in model.graph.value_info  # may tell of tensors that a rewrite has taken away
        if info.name in made and info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    ]
    if not half:
        return "", 0.0
    del model.graph.output[:]
    for name in half:
        chain = [("Cast", {"to": 1}), ("Abs", {}), ("ReduceMax", {"keepdims": 0})]
        source = name
        for kind, attributes in chain:
            target = f"{name}/{kind}"
            model.graph.node.append(onnx.helper.make_node(kind, [source], [target], **attributes))
            source = target
        model.graph.output.append(onnx.helper.make_tensor_value_info(source, 1, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    peaks = [float(value) for value in session.run(None, inputs)]
    index = int(np.argmax(peaks))  # argmax takes NaN for the largest, which is right here
    return half[index], peaks[index]


def observe(path: Path, inputs: dict[str, Array], visit: Visit) -> None:
    """Show every float tensor that depends on the image, in order, named with its operator."""
    import onnx
    import onnxruntime

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    types |= {info.name: info.type.tensor_type.elem_type for info in model.graph.output}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    labels = {
        tensor: label
        for tensor, label in _dependent(model.graph)
        if types.get(tensor, onnx.TensorProto.FLOAT) in floats
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for chunk in _chunks(labels, _sizes(model.graph)):
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in chunk)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        for name, value in zip(chunk, session.run(chunk, inputs), strict=True):
            visit(labels[name], value)


def _sizes(graph: Any) -> dict[str, int]:
    """Bytes of every tensor with a known shape, in float32, by name."""
    shapes = {info.name: info.type.tensor_type.shape.dim for info in graph.value_info}
    known = {name: [dim.dim_value for dim in dims] for name, dims in shapes.items()}
    return {name: 4 * math.prod(dims) for name, dims in known.items() if all(dims)}


def _chunks(names: Iterable[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Runs of names whose tensors take up to BYTES_AT_ONCE, or one that takes more."""
    chunk: list[str] = []
    total = 0
    for name in names:
        size = sizes.get(name, UNKNOWN_BYTES)
        if chunk and total + size > BYTES_AT_ONCE:
            yield chunk
            chunk, total = [], 0
        chunk.append(name)
        total += size
    if chunk:
        yield chunk


def _dependent(graph: Any) -> Iterator[tuple[str, str]]:
    """Tensors that the image has a part in, with what to call them."""
    reached = {item.name for item in graph.input if item.name in IMAGES}
    stored = {item.name for item in graph.initializer}
    for node in graph.node:
        if not reached & {*node.input}:
            continue
        reached |= {*node.output}
        weights = [name for name in node.input if name in stored and "." in name]
        what = ", ".join([node.op_type, *weights[:1]])
        for name in node.output:
            yield name, f"{name} ({what})"
