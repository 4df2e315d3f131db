"""The recipe's numbers: which weights of a .tflite file become float16 or int8.

int8 is ai-edge-quantizer's, by kind of op, because what a delegate has no kernel for falls back to
slow ones: see the target's TOML. Other constants are packed here: stored behind a DEQUANTIZE in
float16, which XNNPACK and the GPU delegates undo when they load the file, or, where a constant is
added to a map (biases of attention), in int8, which XNNPACK undoes at each run.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mobilesam_export.backends.tflite import int8, model_file
from mobilesam_export.backends.tflite.int8 import KINDS, Quantization
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import TargetError
from mobilesam_export.target import GRAPHS, Recipe

SUM = "ADD"  # in a list of what is only stored in int8: constants that are added
DEFAULT_THRESHOLD = 1024  # numbers; below that a constant is not worth a DEQUANTIZE


class Packed(NamedTuple):
    """A constant in fewer bits, and what its tensor says of it."""

    values: Array
    type: int
    suffix: bytes
    quantization: Any


def parse(recipe: Recipe, graph: str) -> Quantization:
    """What a recipe says of one graph.

    Raises:
        TargetError: it is no recipe of this backend, or its `quantize` table has unknown words.
    """
    pair = (recipe.weights, recipe.activations)
    table = dict(recipe.quantize)
    if pair in (("float32", "float32"), ("float16", "float32")):
        if table:
            raise TargetError(
                f"quantize is for int8 weights, but weights are {recipe.weights!r}", "quantize"
            )
        return Quantization((), (), "float32", recipe.weights == "float16", DEFAULT_THRESHOLD)
    if recipe.weights != "int8" or recipe.activations not in ("dynamic-int8", "int8", "int16"):
        raise TargetError(
            "a tflite recipe has float32 or float16 weights with float32 activations, or int8 "
            "weights with dynamic-int8, int8 or int16 activations, found weights "
            f"{recipe.weights!r} and activations {recipe.activations!r}",
            "weights",
        )
    kinds = {name: table.pop(name, None) for name in GRAPHS}
    kinds |= {f"{name}_stored": table.pop(f"{name}_stored", []) for name in GRAPHS}
    rest = table.pop("other_constants", None)
    if table or rest not in ("float32", "float16") or recipe.granularity != "per_channel":
        raise TargetError(
            "an int8 recipe of a tflite target has granularity = 'per_channel' and a quantize "
            "table with encoder and decoder, lists of ops, and other_constants = 'float32' or "
            f"'float16'; found granularity {recipe.granularity!r} and {dict(recipe.quantize)}",
            *("quantize", *table),
        )
    for name, listed in kinds.items():
        known = (*KINDS, SUM) if name.endswith("_stored") else KINDS
        if not isinstance(listed, list) or not all(item in known for item in listed):
            raise TargetError(
                f"quantize.{name} is {listed!r}; expected a list of: {', '.join(known)}",
                *("quantize", name),
            )
    stored, excepted = kinds[f"{graph}_stored"], _float32_weights(recipe, graph)
    if excepted and not kinds[graph]:
        raise TargetError(
            f"exceptions.{graph} excepts nothing: quantize.{graph} is empty", "exceptions", graph
        )
    return Quantization(
        tuple(kinds[graph]),
        tuple(kind for kind in stored if kind != SUM),
        recipe.activations if kinds[graph] else "float32",
        rest == "float16",
        recipe.weight_threshold or DEFAULT_THRESHOLD,
        excepted,
        sums=SUM in stored,
    )


def _float32_weights(recipe: Recipe, graph: str) -> Mapping[str, str]:
    """The recipe's exceptions."""
    exceptions: dict[str, str] = dict(recipe.exceptions.get(graph, {}))
    for pattern, kind in exceptions.items():
        if kind != "float32":
            raise TargetError(
                f"exceptions of a tflite recipe are 'float32'; found {kind!r} for {pattern!r}",
                *("exceptions", graph, pattern),
            )
    return exceptions


def quantize(
    content: bytes,
    quantization: Quantization,
    spec: GraphSpec,
    samples: Sequence[Mapping[str, Array]],
    paths: Mapping[str, str],
    known: dict[str, Any] | None = None,
) -> bytes:
    """Store the weights of a float32 file as the recipe says.

    Args:
        content: the file.
        quantization: from `parse`.
        spec: its interface, which stays as it is.
        samples: inputs to find ranges of activations on, where these are static.
        paths: by the first output of an op, the name of its weight (`names.weight_paths`).
        known: ranges that samples have given for the same file, see `int8.quantize`.

    Raises:
        ConversionError: the quantizer refused the file.
        TargetError: ranges are static, and there are no samples; or a pattern matches no weight.
    """
    if quantization.int8 or quantization.stored:
        content = int8.quantize(content, quantization, spec, samples, paths, known)
    if quantization.float16 or quantization.sums:
        content = _pack(content, quantization)
    return content


def _pack(content: bytes, quantization: Quantization) -> bytes:
    """Put larger float32 constants behind a DEQUANTIZE of the same in fewer bits."""
    from ai_edge_litert import schema_py_generated as schema

    model = model_file.read(content)
    (graph,) = model.subgraphs
    code = _opcode(model, schema, schema.BuiltinOperator.DEQUANTIZE)
    added = _added(model, graph) if quantization.sums else set()
    unpacked: dict[int, Any] = {}
    packed: dict[int, Packed] = {}  # by buffer: tensors may share one, and go on sharing it
    for index, tensor in enumerate(list(graph.tensors)):
        data, buffer = model.buffers[tensor.buffer].data, tensor.buffer
        # Vectors stay: XNNPACK wants the bias of an int8 op as it is.
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(tensor.shape) < 2:
            continue
        if len(data) <= 4 * quantization.threshold or not (quantization.float16 or buffer in added):
            continue
        if buffer not in packed:
            packed[buffer] = _packed(np.frombuffer(bytes(data), np.float32), int8=buffer in added)
        small = copy.copy(tensor)
        small.name = tensor.name + packed[buffer].suffix
        small.type, small.quantization = packed[buffer].type, packed[buffer].quantization
        tensor.buffer = 0  # the empty one: now it is computed
        graph.tensors.append(small)
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
        unpacked[index] = operator
    for buffer, found in packed.items():
        model.buffers[buffer].data = np.frombuffer(found.values.tobytes(), np.uint8)
    operators = []
    for operator in graph.operators:  # just before its first use: XNNPACK's partitions stay whole
        operators += [unpacked.pop(index) for index in operator.inputs if index in unpacked]
        operators.append(operator)
    graph.operators = operators
    return model_file.write(model)


def _added(model: Any, graph: Any) -> set[int]:
    """Buffers of what an ADD adds."""
    kinds = model_file.op_kinds(model)
    sums = [item for item in graph.operators if kinds[item.opcodeIndex] == SUM]
    return {int(graph.tensors[index].buffer) for item in sums for index in item.inputs}


def _packed(values: Array, *, int8: bool) -> Packed:
    """float32 numbers in float16, or in int8 over the range from the least to the greatest.

    One scale for all: XNNPACK unpacks nothing else.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not int8:
        return Packed(values.astype(np.float16), schema.TensorType.FLOAT16, b"/float16", None)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-128 - low / scale)
    affine = schema.QuantizationParametersT()
    affine.scale, affine.zeroPoint = [scale], [zero]
    rounded = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
    return Packed(rounded, schema.TensorType.INT8, b"/int8", affine)


def _opcode(model: Any, schema: Any, builtin: int) -> int:
    """Index of an op in the file's table, added if need be."""
    version = 3 if builtin == schema.BuiltinOperator.DEQUANTIZE else 1  # 3 has float16
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
