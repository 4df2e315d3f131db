"""Versions of the ops of a .tflite file, set from what each op is after quantization.

A runtime refuses a file by name if an op is newer than its kernel; a version that is too low lets
an old kernel compute something else without an error. The converter declares versions for a
float32 file and the quantizer keeps them: TFLite 2.14 then ran per-channel int8 FULLY_CONNECTED
ops of version 5 as if they had one scale (embedding PSNR 12.7 dB).
"""

from typing import Any

from mobilesam_export.backends.tflite import model_file
from mobilesam_export.backends.tflite.version_rules import Op, op_version


def recomputed(content: bytes) -> bytes:
    """A file whose ops have the versions of the rules.

    Ops of one kind may differ: each version gets an entry of its own in the table of op codes, as
    the converter itself writes them. An op without a rule here keeps the converter's version.
    """
    model = model_file.read(content)
    (graph,) = model.subgraphs
    kinds = model_file.op_kinds(model)
    codes: dict[tuple[int, int], Any] = {}
    places: dict[tuple[int, int], int] = {}
    for operator in graph.operators:
        old = int(operator.opcodeIndex)
        declared = model.operatorCodes[old]
        version = op_version(kinds[old], _op(operator, graph.tensors))
        key = old, int(declared.version) if version is None else version
        if key not in codes:
            codes[key], places[key] = _code(declared, key[1]), len(codes)
        operator.opcodeIndex = places[key]
    model.operatorCodes = list(codes.values())
    return model_file.write(model)


def _op(operator: Any, tensors: list[Any]) -> Op:
    return Op(
        [tensors[index] if index >= 0 else None for index in operator.inputs],
        [tensors[index] for index in operator.outputs],
        operator.builtinOptions,
    )


def _code(declared: Any, version: int) -> Any:
    """A copy of an entry of the table of op codes, with another version."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = (
        declared.builtinCode,
        declared.deprecatedBuiltinCode,
    )
    code.customCode, code.version = declared.customCode, version
    return code
