"""Weights in int8: what computes in integers, what does not, and how close answers stay."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilesam_export.backends.tflite import backend as backend
from mobilesam_export.backends.tflite import int8, model_file, quantize
from mobilesam_export.contract import Contract, GraphSpec, TensorSpec
from mobilesam_export.errors import TargetError
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS
from tests.tflite_files import Op, Options, make_file

TARGET = load_target("tflite")
CONTRACT = Contract(256, 6, TARGET.graph)
SPEC = GraphSpec(
    "encoder", (TensorSpec("x", (5, 8), "float32", ""),), (TensorSpec("y", (5, 4), "float32", ""),)
)
RANDOM = np.random.default_rng(0)
SAMPLES = [{"x": RANDOM.uniform(-1, 1, (5, 8)).astype(np.float32)} for _ in range(3)]
PATHS = {"first/out": "first.weight", "y": "second.weight"}  # by the output of an op
LARGE = {"x": np.full((5, 8), 3, np.float32)}  # the last sample, outside the range of the others


def two_layers(path: Path) -> bytes:
    tensors: dict[str, Any] = {
        "x": (5, 8),
        "a": RANDOM.standard_normal((6, 8)).astype(np.float32),
        "first/out": (5, 6),
        "b": RANDOM.standard_normal((4, 6)).astype(np.float32),
        "y": (5, 4),
    }
    options: Options = ("FullyConnectedOptions", {})
    ops = [
        Op("FULLY_CONNECTED", ["x", "a"], ["first/out"], options),
        Op("FULLY_CONNECTED", ["first/out", "b"], ["y"], options),
    ]
    return make_file(path, tensors, ops).read_bytes()


def taken_types(content: bytes, kind: str, place: int = 0) -> list[int]:
    """TensorType of one input of each op of a kind."""
    model = model_file.read(content)
    kinds, graph = model_file.op_kinds(model), model.subgraphs[0]
    ops = [op for op in graph.operators if kinds[op.opcodeIndex] == kind]
    return [graph.tensors[op.inputs[place]].type for op in ops]


def small(tmp_path: Path, activations: str, float32: Sequence[str] = ()) -> bytes:
    content = two_layers(tmp_path / "small.tflite")
    how = quantization(activations, float32)
    return int8.quantize(content, how, SPEC, [*SAMPLES, LARGE], PATHS)


def quantization(activations: str, float32: Sequence[str] = ()) -> int8.Quantization:
    return int8.Quantization(
        int8=("FULLY_CONNECTED",),
        stored=(),
        activations=activations,
        float16=False,
        threshold=0,
        float32=dict.fromkeys(float32, "float32"),
    )


FLOAT32, INT16, INT8 = 0, 7, 9  # TensorType


@pytest.mark.parametrize(("activations", "kind"), [("int8", INT8), ("int16", INT16)])
def test_listed_ops_compute_in_integers_and_the_interface_in_float(
    tmp_path: Path, activations: str, kind: int
) -> None:
    content = small(tmp_path, activations)
    assert taken_types(content, "FULLY_CONNECTED") == [kind, kind]
    graph = model_file.read(content).subgraphs[0]
    assert {graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)} == {FLOAT32}


def test_an_excepted_op_stays_float(tmp_path: Path) -> None:
    content = small(tmp_path, "int8", ["first"])
    assert taken_types(content, "FULLY_CONNECTED") == [FLOAT32, INT8]


def test_a_dynamic_recipe_excepts_ops_as_well(tmp_path: Path) -> None:
    content = small(tmp_path, "dynamic-int8", ["first.*"])
    model = model_file.read(content)
    graph = model.subgraphs[0]
    matrices = [graph.tensors[operator.inputs[1]].type for operator in graph.operators]
    assert matrices == [FLOAT32, INT8]


def error_of(tmp_path: Path, activations: str, inputs: dict[str, Any]) -> float:
    """Largest error of the quantized file, beside the largest value of the float32 one."""
    path = tmp_path / "found.tflite"
    path.write_bytes(small(tmp_path, activations))
    found = backend.load(path, SPEC).run(inputs)["y"]
    expected = backend.load(tmp_path / "small.tflite", SPEC).run(inputs)["y"]
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_a_range_is_that_of_all_samples_and_not_of_the_first(tmp_path: Path) -> None:
    """With a range of the first sample alone, an input of 3 would be cut to 1."""
    assert error_of(tmp_path, "int8", LARGE) < 0.05


def test_int16_has_room_for_values_that_no_sample_has(tmp_path: Path) -> None:
    assert error_of(tmp_path, "int16", {"x": LARGE["x"] * 1.9}) < 0.02


def test_known_ranges_are_not_found_again(tmp_path: Path) -> None:
    content, known = two_layers(tmp_path / "small.tflite"), dict[str, Any]()
    how = quantization("int8")
    first = int8.quantize(content, how, SPEC, [*SAMPLES, LARGE], PATHS, known)
    other = [{"x": np.zeros((5, 8), np.float32)}]
    assert int8.quantize(content, how, SPEC, other, PATHS, known) == first


def test_without_samples_there_are_no_ranges(tmp_path: Path) -> None:
    content = two_layers(tmp_path / "small.tflite")
    with pytest.raises(TargetError, match="given no samples"):
        int8.quantize(content, quantization("int8"), SPEC, (), PATHS)


def test_a_pattern_of_no_op_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        TargetError, match=r"'third\.\*' matches no weight of the encoder.* in first, sec"
    ):
        small(tmp_path, "int8", ["third.*"])


def test_exceptions_are_float32() -> None:
    changed = replace(TARGET.recipes["w8a8"], exceptions={"encoder": {"stem": "float16"}})
    with pytest.raises(TargetError, match="exceptions of a tflite recipe"):
        quantize.parse(changed, "encoder")


def test_w8a16_of_a_real_decoder_leaves_attention_norms_and_sums_in_float(
    export: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = export("tflite", "-c", WEIGHTS, "--image-size", "256", "-r", "float32")
    path, spec = tmp_path / "decoder.tflite", CONTRACT.decoder
    random = np.random.default_rng(0)
    sample = {
        t.name: random.uniform(0, 4, [int(n) for n in t.shape]).astype(np.float32)
        for t in spec.inputs
    }
    parsed = quantize.parse(TARGET.recipes["w8a16"], "decoder")
    content = (bundle / path.name).read_bytes()
    content = quantize.quantize(content, parsed, spec, [sample], {})
    path.write_bytes(content)
    for kind in ("FULLY_CONNECTED", "CONV_2D"):
        assert set(taken_types(content, kind)) == {INT16}
    assert set(taken_types(content, "TRANSPOSE_CONV", place=2)) == {INT16}
    for kind in ("BATCH_MATMUL", "SOFTMAX", "MEAN", "ADD"):
        assert set(taken_types(content, kind)) == {FLOAT32}
    found, expected = (backend.load(p, spec).run(sample) for p in (path, bundle / path.name))
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < 0.05 * np.abs(values).max()
