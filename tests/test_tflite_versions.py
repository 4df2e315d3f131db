"""Versions of TFLite ops: what an old runtime would compute wrongly, it must refuse."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from mobilesam_export.backends.tflite import model_file, versions
from mobilesam_export.backends.tflite.version_rules import BY_TYPE, RULES, Op, op_version
from tests.conftest import DEFAULT
from tests.tflite_files import Op as FileOp
from tests.tflite_files import make_file


def tensor(kind: str, shape: Sequence[int], scales: int = 0, axis: int = 0) -> Any:
    """A tensor of the schema, with that many scales along an axis."""
    made = schema.TensorT()
    made.type, made.shape = getattr(schema.TensorType, kind), list(shape)
    if scales:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = [0.5] * scales
        made.quantization.quantizedDimension = axis
    return made


def options(**fields: Any) -> Any:
    """Options of an op, as far as its version depends on them."""
    return type("Options", (), fields)()


def product(image: str, weights: Any, **fields: Any) -> Op:
    """An op with weights and a bias; its output has the image's type."""
    shape = (1, 4, 4, 8)
    bias = tensor("FLOAT32", (8,))
    return Op([tensor(image, shape), weights, bias], [tensor(image, shape)], options(**fields))


SQUARE = ("INT8", (8, 8))
KERNEL = ("INT8", (8, 3, 3, 8))
DEPTHWISE = ("INT8", (1, 3, 3, 8))
TABLE: list[tuple[str, Op, int]] = [
    ("FULLY_CONNECTED", product("FLOAT32", tensor("FLOAT32", (8, 8))), 1),
    ("FULLY_CONNECTED", product("FLOAT32", tensor("FLOAT32", (8, 8)), keepNumDims=True), 5),
    ("FULLY_CONNECTED", product("FLOAT32", tensor(*SQUARE, 8), keepNumDims=True), 12),
    ("FULLY_CONNECTED", product("FLOAT32", tensor(*SQUARE, 1)), 3),
    ("FULLY_CONNECTED", product("FLOAT32", tensor(*SQUARE, 1), asymmetricQuantizeInputs=True), 9),
    ("FULLY_CONNECTED", product("INT8", tensor(*SQUARE, 8)), 4),
    ("FULLY_CONNECTED", product("INT8", tensor(*SQUARE, 8), keepNumDims=True), 5),
    ("FULLY_CONNECTED", product("INT16", tensor(*SQUARE, 1), quantizedBiasType=4), 11),
    ("FULLY_CONNECTED", product("INT16", tensor(*SQUARE, 8), quantizedBiasType=4), 14),
    ("FULLY_CONNECTED", product("INT16", tensor(*SQUARE, 8), keepNumDims=True), 14),
    ("FULLY_CONNECTED", product("INT16", tensor("INT4", (8, 8), 8)), 13),
    ("CONV_2D", product("FLOAT32", tensor("FLOAT32", (8, 3, 3, 8))), 1),
    ("CONV_2D", product("FLOAT32", tensor(*KERNEL, 8)), 5),
    ("CONV_2D", product("FLOAT32", tensor(*KERNEL, 1)), 2),
    ("CONV_2D", product("INT8", tensor(*KERNEL, 8)), 3),
    ("CONV_2D", product("INT8", tensor("INT8", (8, 3, 3, 4), 8)), 6),
    ("CONV_2D", product("INT16", tensor(*KERNEL, 8), quantizedBiasType=4), 8),
    ("DEPTHWISE_CONV_2D", product("FLOAT32", tensor(*DEPTHWISE, 8)), 6),
    ("DEPTHWISE_CONV_2D", product("FLOAT32", tensor(*DEPTHWISE, 1)), 4),
    ("DEPTHWISE_CONV_2D", product("INT8", tensor(*DEPTHWISE, 8)), 3),
    ("DEQUANTIZE", Op([tensor("INT8", (8, 4), 8)], [tensor("FLOAT32", (8, 4))], None), 5),
    ("DEQUANTIZE", Op([tensor("INT8", (8, 4), 1)], [tensor("FLOAT32", (8, 4))], None), 2),
    ("DEQUANTIZE", Op([tensor("FLOAT16", (8, 4))], [tensor("FLOAT32", (8, 4))], None), 3),
    ("QUANTIZE", Op([tensor("FLOAT32", (8,))], [tensor("INT8", (8,), 1)], None), 1),
    ("QUANTIZE", Op([tensor("FLOAT32", (8,))], [tensor("INT16", (8,), 1)], None), 2),
    ("TRANSPOSE", Op([tensor("FLOAT32", (1,) * 5)], [tensor("FLOAT32", (1,) * 5)], None), 4),
    ("SOFTMAX", Op([tensor("INT16", (8,), 1)], [tensor("INT16", (8,), 1)], None), 3),
    ("BROADCAST_TO", Op([tensor("FLOAT32", (1,))], [tensor("FLOAT32", (8,))], None), 2),
]


@pytest.mark.parametrize(("kind", "op", "expected"), TABLE)
def test_a_version_is_the_one_of_the_runtimes_own_table(kind: str, op: Op, expected: int) -> None:
    assert op_version(kind, op) == expected


@given(kind=st.sampled_from(sorted(BY_TYPE)), element=st.sampled_from(["FLOAT32", "INT8", "INT16"]))
def test_a_quantized_op_never_needs_an_older_kernel_than_float32(kind: str, element: str) -> None:
    op = Op([tensor(element, (8,), 1)], [tensor(element, (8,), 1)], None)
    plain = Op([tensor("FLOAT32", (8,))], [tensor("FLOAT32", (8,))], None)
    version, least = op_version(kind, op), op_version(kind, plain)
    assert version is not None
    assert least is not None
    assert version >= least


def test_ops_of_one_kind_have_versions_of_their_own(tmp_path: Path) -> None:
    """An int8 op must not make a runtime refuse the float32 one beside it, nor the other way."""
    weights = {"small": np.ones((4, 8), np.float32), "int8": np.ones((4, 4), np.int8)}
    tensors: dict[str, Any] = {"x": (1, 8), **weights, "y": (1, 4), "z": (1, 4)}
    ops = [
        FileOp("FULLY_CONNECTED", ["x", "small"], ["y"], ("FullyConnectedOptions", {})),
        FileOp("FULLY_CONNECTED", ["y", "int8"], ["z"], ("FullyConnectedOptions", {})),
    ]
    model = model_file.read(make_file(tmp_path / "a.tflite", tensors, ops).read_bytes())
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [0.1] * 4, [0] * 4
    model.subgraphs[0].tensors[2].quantization = quantization
    model = model_file.read(versions.recomputed(model_file.write(model)))
    found = [model.operatorCodes[op.opcodeIndex].version for op in model.subgraphs[0].operators]
    assert found == [6, 12]


@pytest.mark.parametrize("recipe", ["float32", "w8-dynamic"])
def test_every_op_of_an_exported_file_has_its_version(
    recipe: str, export: Callable[..., Path]
) -> None:
    bundle = export("tflite", *DEFAULT, *(() if recipe == "w8-dynamic" else ("-r", recipe)))
    for path in sorted(bundle.glob("*.tflite")):
        model = model_file.read(path.read_bytes())
        kinds = model_file.op_kinds(model)
        assert set(kinds.values()) <= {*RULES, *BY_TYPE}, "an op without a rule"
        assert all(code.version >= 1 for code in model.operatorCodes)
        assert [item.name for item in model.metadata] == [model_file.METADATA_NAME]
        declared = {(kinds[i], code.version) for i, code in enumerate(model.operatorCodes)}
        if path.stem == "encoder":
            assert (("FULLY_CONNECTED", 12) in declared) == (recipe == "w8-dynamic")
            assert ("FULLY_CONNECTED", 5) in declared  # what stays float32 keeps its version
