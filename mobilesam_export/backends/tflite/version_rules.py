"""The version of an op of a .tflite file, by its tensors and options.

The rules are those of LiteRT's tflite/converter/tools/versioning, op_version.cc and
op_signature.cc (August 2026), for the kinds, types and options of exported files, but where noted.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Version by the type of the first input, for ops where nothing else matters; others are version 1.
INT8_ONLY = {"INT8": 2}
INT8_INT16 = {"INT8": 2, "INT16": 3}
BY_TYPE: Mapping[str, Mapping[str, int]] = {
    "AVERAGE_POOL_2D": INT8_INT16,
    "CONCATENATION": {**INT8_INT16, "UINT32": 4, "INT4": 5, "FLOAT16": 6},
    "COS": {"FLOAT16": 2},
    "DEPTH_TO_SPACE": INT8_ONLY,
    "EXP": {"INT8": 2, "INT16": 2},
    "GELU": {"INT8": 2, "UINT8": 2, "FLOAT16": 3},
    "GREATER": INT8_ONLY,
    "GREATER_EQUAL": INT8_INT16,
    "LESS": INT8_INT16,
    "LESS_EQUAL": INT8_ONLY,
    "LOGISTIC": INT8_INT16,
    "MAX_POOL_2D": INT8_INT16,
    "MEAN": INT8_INT16,
    "PACK": {**INT8_INT16, "UINT32": 4},
    "REDUCE_MAX": INT8_INT16,
    "REDUCE_MIN": INT8_INT16,
    "RELU": {"INT8": 2, "UINT8": 2, "INT16": 3},
    "RELU6": INT8_INT16,
    "RESHAPE": {},
    "ROUND": {},
    "RSQRT": INT8_INT16,
    "SIN": {"FLOAT16": 2},
    "SOFTMAX": {**INT8_INT16, "FLOAT16": 4},
    "SQRT": {"INT8": 2, "INT16": 2},
    "SQUARED_DIFFERENCE": INT8_ONLY,
    "SUM": INT8_ONLY,
    "TANH": INT8_INT16,
}


class Op(NamedTuple):
    """What an op's version depends on.

    Attributes:
        inputs: its tensors (`TensorT`); None for an optional one that is absent.
        outputs: likewise.
        options: its table of options, or None.
    """

    inputs: list[Any]
    outputs: list[Any]
    options: Any

    def types(self) -> tuple[str, str, str]:
        """Names of the types of the first input, the second input and the first output."""
        second = self.inputs[1] if len(self.inputs) > 1 else None
        return type_name(self.inputs[0]), type_name(second), type_name(self.outputs[0])

    def option(self, name: str) -> Any:
        """A field of the options; None without a table."""
        return getattr(self.options, name, None)


def op_version(kind: str, op: Op) -> int | None:
    """The least version of an op's kernel that computes it; None for kinds without a rule.

    Args:
        kind: as in TFLite's schema, for instance "CONV_2D".
        op: its tensors and options.
    """
    if kind in RULES:
        return RULES[kind](op)
    if kind in BY_TYPE:
        return BY_TYPE[kind].get(op.types()[0], 1)
    return None


def type_name(tensor: Any) -> str:
    """Name of a tensor's type in the schema; "" for an absent tensor."""
    from ai_edge_litert import schema_py_generated as schema

    if tensor is None:
        return ""
    names = {value: name for name, value in vars(schema.TensorType).items()}
    return str(names[tensor.type])


def _rank(tensor: Any) -> int:
    return 0 if tensor.shape is None else len(tensor.shape)


def _scales(tensor: Any) -> list[float]:
    """Scales of a quantized tensor; none of others."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return []
    return [float(scale) for scale in quantization.scale]


def _per_channel(tensor: Any, axis: int) -> bool:
    """Whether a tensor has as many scales as elements along an axis."""
    return bool(_scales(tensor)) and len(_scales(tensor)) == int(tensor.shape[axis])


def _broadcasts_rank_5(op: Op) -> bool:
    first, second = op.inputs[:2]
    return list(first.shape) != list(second.shape) and max(_rank(first), _rank(second)) > 4


def _add(op: Op) -> int:
    first, _, output = op.types()
    if first == "INT16" and op.inputs[0].quantization is None:
        return 5
    if first == "INT16" and output == "INT16" and not op.option("potScaleInt16"):
        return 3
    return {"FLOAT16": 6, "INT64": 4, "INT8": 2}.get(first, 1)


def _sub(op: Op) -> int:
    first, _, output = op.types()
    if first == output == "INT16" and not op.option("potScaleInt16"):
        return 5
    if first != "INT64" and _broadcasts_rank_5(op):
        return 3
    return {"INT64": 4, "INT8": 2}.get(first, 1)


def _mul(op: Op) -> int:
    first = op.types()[0]
    quantized = any(tensor.quantization is not None for tensor in op.inputs)
    if first == "INT16" and not quantized:
        return 7
    versions = {"FLOAT16": 8, "UINT32": 7, "COMPLEX64": 6, "INT64": 5, "INT16": 4}
    if first in versions:
        return versions[first]
    scales = [_scales(tensor)[:1] for tensor in (*op.inputs[:2], op.outputs[0])]
    if all(scales):
        (one,), (other,), (output,) = scales
        if output and one * other / output >= 1:
            return 3
    return 2 if first == "INT8" else 1


def _div(op: Op) -> int:
    return 2 if _broadcasts_rank_5(op) else 1


def _batch_matmul(op: Op) -> int:
    types = op.types()
    if types == ("FLOAT32", "INT8", "FLOAT32") and op.option("asymmetricQuantizeInputs"):
        return 4
    return {"INT16": 3, "INT8": 2}.get(types[0], 1)


def _conv_2d(op: Op) -> int:
    types, weights = op.types(), op.inputs[1]
    if types == ("INT16", "INT8", "INT16") and op.option("quantizedBiasType"):
        return 8
    if int(op.inputs[0].shape[3]) != int(weights.shape[3]):  # grouped
        return 6
    if types == ("FLOAT32", "INT8", "FLOAT32"):
        return 5 if _per_channel(weights, 0) else 2
    versions = {"INT16": 4, "INT8": 3, "INT4": 7}
    return versions.get(types[1], 1) if types[0] == types[2] in ("INT16", "INT8") else 1


def _depthwise_conv_2d(op: Op) -> int:
    types, weights = op.types(), op.inputs[1]
    if types == ("FLOAT32", "INT8", "FLOAT32"):
        return 6 if _per_channel(weights, 3) else 4
    known = {
        ("INT16", "INT16", "INT16"): 5,
        ("INT8", "INT8", "INT8"): 3,
        ("INT8", "INT4", "INT8"): 7,
    }
    if types in known:
        return known[types]
    return 2 if (op.option("dilationWFactor"), op.option("dilationHFactor")) != (1, 1) else 1


def _transpose_conv(op: Op) -> int:
    types = op.types()  # the first input is the output's shape
    # LiteRT looks for INT16 at that input, too, where it never is; here at the image's.
    int16 = (type_name(op.inputs[2]), *types[1:]) == ("INT16", "INT8", "INT16")
    if int16 and op.option("quantizedBiasType"):
        return 5
    if op.option("fusedActivationFunction"):
        return 4
    if len(op.inputs) == 4 and op.inputs[3] is not None:
        return 3
    return 2 if types[1] == "INT8" else 1


def _fully_connected(op: Op) -> int:
    types, weights = op.types(), op.inputs[1]
    hybrid = types == ("FLOAT32", "INT8", "FLOAT32")
    int16x8 = types == ("INT16", "INT8", "INT16")
    in_order = (  # the first that holds counts
        (types[1] == "INT2", 14),
        # Not LiteRT's rule: LiteRT 1.0.1, up to version 13, takes one scale for all (benchmarks/).
        (int16x8 and _per_channel(weights, 0), 14),
        (types == ("INT16", "INT4", "INT16"), 13),
        (hybrid and _per_channel(weights, 0), 12),
        (int16x8 and bool(op.option("quantizedBiasType")), 11),
        (weights.sparsity is not None, 8),
        (types == ("INT16", "INT16", "INT16"), 7),
        (len(op.inputs) == 2, 6),  # no bias
        (bool(op.option("keepNumDims")), 5),
        (types == ("INT8", "INT8", "INT8"), 4),
        (types == ("INT8", "INT4", "INT8"), 10),
        (hybrid and bool(op.option("asymmetricQuantizeInputs")), 9),
        (hybrid, 3),
    )
    return next((version for holds, version in in_order if holds), 1)


def _dequantize(op: Op) -> int:
    tensor = op.inputs[0]
    if type_name(tensor) == "INT8":
        scales = len(_scales(tensor))
        axis = int(tensor.quantization.quantizedDimension) if scales else 0
        return 5 if scales > 1 and _per_channel(tensor, axis) else 2
    return {"INT16": 3, "FLOAT16": 3, "INT4": 6, "INT2": 7, "UINT4": 8}.get(type_name(tensor), 1)


def _quantize(op: Op) -> int:
    tensor = op.outputs[0]
    types = op.types()
    if "UINT4" in types:
        return 5
    if "INT4" in types:
        return 4
    scales = len(_scales(tensor))
    if scales > 1 and _per_channel(tensor, int(tensor.quantization.quantizedDimension)):
        return 3
    return 2 if type_name(tensor) == "INT16" else 1


def _abs(op: Op) -> int:
    first = op.types()[0]
    if first == "INT16":
        return 4 if op.inputs[0].quantization is None else 3
    return {"INT8": 2, "UINT8": 2, "INT32": 5}.get(first, 1)


def _cast(op: Op) -> int:
    types = {op.types()[0], op.types()[2]}
    if (op.types()[0], op.types()[2]) == ("INT4", "FLOAT32"):
        return 6
    newest_first = {
        8: {"INT2", "UINT4"},
        7: {"BFLOAT16"},
        5: {"FLOAT64", "FLOAT16"},
        4: {"UINT16"},
        3: {"INT8"},
        2: {"UINT32"},
    }
    return next((version for version, names in newest_first.items() if types & names), 1)


def _slice(op: Op) -> int:
    first = op.types()[0]
    newer = {"FLOAT16": 8, "INT4": 7, "UINT32": 6}
    if first in newer:
        return newer[first]
    if _rank(op.inputs[0]) > 4:
        return 5
    return {"INT16": 4, "STRING": 3, "INT8": 2}.get(first, 1)


def _transpose(op: Op) -> int:
    first, rank = op.types()[0], _rank(op.inputs[0])
    if first == "FLOAT16":
        return 9
    if rank > 6 or first == "BFLOAT16":
        return 8
    if first == "INT4":
        return 7
    if rank > 5:
        return 6
    if first == "INT16":
        return 5
    return 4 if rank > 4 else {"BOOL": 3, "INT8": 2}.get(first, 1)


def _pad(op: Op) -> int:
    first = op.types()[0]
    if first == "BOOL":
        return 5
    return 4 if _rank(op.inputs[0]) > 4 else {"INT16": 3, "INT8": 2}.get(first, 1)


def _broadcast_to(op: Op) -> int:
    return 3 if op.types()[0] in ("INT8", "INT16") else 2


# Where more than the first input's type counts.
RULES: Mapping[str, Callable[[Op], int]] = {
    "ABS": _abs,
    "ADD": _add,
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": _broadcast_to,
    "CAST": _cast,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "SLICE": _slice,
    "SUB": _sub,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
}
