"""The form for GPU delegates: it computes the same, in files that our rules call resident."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam_export.backends import reference
from mobilesam_export.backends.tflite import backend as backend
from mobilesam_export.backends.tflite import batch, int8, lowering, model_file
from mobilesam_export.contract import Contract
from mobilesam_export.graphs import split_graphs
from mobilesam_export.inspection.graph import GraphDescription
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS
from tests.tflite_files import Op, Options, make_file

GRAPHS = ("encoder", "decoder")
FORM = load_target("tflite-gpu").graph
CONTRACT = Contract(256, 6, FORM)
TOLERANCE = 1e-4  # on embeddings of 4 and logits of 5


@pytest.fixture(scope="session")
def bundle(export: Callable[..., Path]) -> Path:
    """Of float16, the target's default, on seeded weights."""
    return export("tflite-gpu", "-c", WEIGHTS, "--image-size", "256")


@pytest.fixture(params=GRAPHS)
def described(request: pytest.FixtureRequest, bundle: Path) -> GraphDescription:
    return backend.describe(bundle / f"{request.param}.tflite")


def test_every_op_is_resident_and_none_at_risk(described: GraphDescription) -> None:
    assert described.residency is not None
    pairs = zip(described.nodes, described.residency, strict=True)
    assert [(node.kind, node.name) for node, place in pairs if place.verdict != "resident"] == []


def test_no_tensor_has_more_than_four_axes_or_a_dynamic_one(described: GraphDescription) -> None:
    assert max(tensor.rank or 0 for tensor in described.activations()) == 4
    assert all(tensor.elements is not None for tensor in described.activations())


def test_what_is_not_reshaped_has_four_axes_and_a_batch_of_one(
    described: GraphDescription,
) -> None:
    computing = [node for node in described.nodes if node.kind not in ("RESHAPE", "TRANSPOSE")]
    taken = {(node.kind, tensor) for node in computing for tensor in node.operands()}
    large = {(kind, t.shape) for kind, t in taken if t.shape and (t.elements or 0) > 1}
    assert large
    assert {(kind, shape) for kind, shape in large if len(shape) != 4 or shape[0] != 1} == set()


def test_the_default_has_no_transposed_convolution(described: GraphDescription) -> None:
    assert "TRANSPOSE_CONV" not in {node.kind for node in described.nodes}


def test_weights_are_float16(bundle: Path) -> None:
    assert (bundle / "encoder.tflite").stat().st_size < 15e6
    assert (bundle / "decoder.tflite").stat().st_size < 11e6


@pytest.mark.parametrize("upsampling", ["pointwise", "transposed"])
def test_both_forms_of_upsampling_equal_the_model(sam: Sam, upsampling: str) -> None:
    contract = Contract(256, 6, replace(FORM, upsampling=upsampling))
    _, decoder = split_graphs(sam, contract)
    expected = reference.load(sam, contract).decoder
    inputs = [*decoder.example_inputs()[:-1], torch.ones(1)]
    names = [tensor.name for tensor in contract.decoder.inputs]
    masks, iou = decoder.module(*inputs)
    right = expected.run({n: v.numpy() for n, v in zip(names, inputs, strict=True)})
    assert np.abs(masks.numpy() - right["low_res_masks"]).max() <= TOLERANCE
    assert np.abs(iou.numpy() - right["iou_predictions"]).max() <= TOLERANCE


@pytest.mark.parametrize("size", [256, 448])
def test_the_encoder_equals_the_model(state_dict: dict[str, torch.Tensor], size: int) -> None:
    model = build_sam(state_dict, size)
    contract = Contract(size, 6, FORM)
    encoder, _ = split_graphs(model, contract)
    (image,) = encoder.example_inputs()
    expected = reference.load(model, contract).encoder.run({"image": image.numpy()})
    found = encoder.module(image).numpy()
    assert np.abs(found - expected["image_embeddings"]).max() <= TOLERANCE


def small_file(path: Path) -> Path:
    """Three axes in, two out; a reduction that drops its axis; a vector and a matrix added."""
    random = np.random.default_rng(0)

    def stored(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    tensors: dict[str, Any] = {
        "x": (1, 5, 4),
        "matrix": stored(5, 4),
        "number": np.array(0.5, np.float32),
        "axis": np.array([2], np.int32),
        "more": stored(1, 2),
        "shape": np.array([1, 5, 1], np.int32),
        "sum": (1, 5, 4),
        "mean": (1, 5),
        "shifted": (1, 5),
        "again": (1, 5, 1),
        "scaled": (1, 5, 4),
        "second mean": (1, 5),
        "y": (1, 7),
    }
    add: Options = ("AddOptions", {})
    mean: Options = ("ReducerOptions", {"keepDims": False})
    ops = [
        Op("ADD", ["x", "matrix"], ["sum"], add),
        Op("MEAN", ["sum", "axis"], ["mean"], mean),
        Op("ADD", ["mean", "number"], ["shifted"], add),
        Op("RESHAPE", ["shifted", "shape"], ["again"]),
        Op("MUL", ["x", "again"], ["scaled"], ("MulOptions", {})),
        Op("MEAN", ["scaled", "axis"], ["second mean"], mean),
        Op("CONCATENATION", ["second mean", "more"], ["y"], ("ConcatenationOptions", {"axis": 1})),
    ]
    return make_file(path, tensors, ops)


def answer(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    ask = Interpreter(str(path), num_threads=1).get_signature_runner("encoder")
    x = np.random.default_rng(1).standard_normal((1, 5, 4)).astype(np.float32)
    return ask(x=x)["y"]


def test_lifting_changes_axes_and_nothing_else(tmp_path: Path) -> None:
    before = small_file(tmp_path / "before.tflite")
    after = tmp_path / "after.tflite"
    after.write_bytes(batch.lift(before.read_bytes()))
    assert np.array_equal(answer(after), answer(before))
    graph = backend.describe(after)
    assert [t.shape for t in (*graph.inputs, *graph.outputs)] == [(1, 5, 4), (1, 7)]
    inside = [t for node in graph.nodes for t in node.outputs if t not in graph.outputs]
    assert {tensor.rank for tensor in inside} == {4}
    assert graph.residency is not None
    assert all(place.verdict == "resident" for place in graph.residency)


def test_lifting_what_cannot_be_lifted_leaves_it(tmp_path: Path) -> None:
    """GATHER_ND is none of the kinds whose axes are known; its neighbours keep theirs, too."""
    tensors: dict[str, Any] = {
        "x": (4, 8),
        "where": np.array([[1], [2]], np.int32),
        "picked": (2, 8),
        "y": (2, 8),
    }
    ops = [Op("GATHER_ND", ["x", "where"], ["picked"]), Op("RELU", ["picked"], ["y"])]
    path = make_file(tmp_path / "small.tflite", tensors, ops)
    graph = model_file.read(batch.lift(path.read_bytes())).subgraphs[0]
    kept = {tensor.name: list(tensor.shape) for tensor in graph.tensors}
    assert kept[b"picked"] == [2, 8]


def test_the_readme_has_code_for_the_gpu_with_every_name_filled_in(bundle: Path) -> None:
    sample = "".join(path.read_text() for path in (bundle / "sample").rglob("*.kt"))
    assert "CompiledModel.Options(" in sample
    text = (bundle / "README.md").read_text()
    assert "Accelerator.GPU" in text
    assert "$" not in text.partition("## Weights")[0]
    for spec in (CONTRACT.encoder, CONTRACT.decoder):
        assert all(f'"{t.name}"' in sample for t in (*spec.inputs, *spec.outputs))


def largest_sum(content: bytes, graph: str) -> float:
    """The largest total of a SUM or MEAN, as seen on the example inputs."""
    spec = getattr(CONTRACT, graph)
    inputs: dict[str, Any] = {}
    random = np.random.default_rng(0)
    for tensor in spec.inputs:
        low, high = (0, 255) if tensor.name == "image" else (-1, 1)
        inputs[tensor.name] = random.uniform(low, high, tensor.shape).astype(np.float32)
    ranges = int8.find_ranges(content, spec, [inputs])
    model = model_file.read(content)
    kinds, made = model_file.op_kinds(model), model.subgraphs[0]
    totals = []
    for op in made.operators:
        if kinds[op.opcodeIndex] in ("MEAN", "SUM"):
            taken, result = (made.tensors[i] for i in (op.inputs[0], op.outputs[0]))
            found = ranges[result.name.decode()]
            share = np.prod(taken.shape) / np.prod(result.shape)
            most = max(abs(found["min"].item()), abs(found["max"].item()))
            totals.append(most * (share if kinds[op.opcodeIndex] == "MEAN" else 1))
    return float(max(totals))


def test_sums_stay_far_from_the_end_of_float16(bundle: Path, described: GraphDescription) -> None:
    graph = described.path.stem
    assert 0 < largest_sum((bundle / f"{graph}.tflite").read_bytes(), graph) < 65504 / 8


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_layer_norm_in_float16_sums_is_layer_norm(eps: float) -> None:
    x = 40 * torch.randn(1, 3, 5, 256, generator=torch.Generator().manual_seed(0))
    weight, bias = torch.randn(2, 256, generator=torch.Generator().manual_seed(1))
    found = lowering.float16_layer_norm(x, (256,), weight, bias, eps)
    expected = torch.nn.functional.layer_norm(x, (256,), weight, bias, eps)
    assert (found - expected).abs().max() < 1e-5
    summed = (x - x.mean(-1, keepdim=True)).square().sum(-1).max()
    assert summed > 65504  # which the plain form would have come to
