"""The collapse guard names where a file goes wrong: planted faults in real files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.onnx import backend as backend
from mobilesam_export.backends.onnx import observe
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Array, Contract
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.prompts import Prompt
from mobilesam_export.target import load_target
from mobilesam_export.verification import diagnosis, verify
from mobilesam_export.verification.cases import ImageCase, reference_cases
from mobilesam_export.verification.report import Report
from mobilesam_export.verification.status import Status
from tests.conftest import tiny_state_dict

LAYER = "conv2d_9"  # between the first two stages: all that follows depends on it
TOLERANCE = load_target("onnx").recipes["float16"].tolerance
Fault = Callable[[onnx.GraphProto, onnx.NodeProto], list[onnx.NodeProto]]


@pytest.fixture(scope="module")
def cases(onnx_bundle: Path) -> tuple[ImageCase, ...]:
    contract = open_bundle(onnx_bundle).contract
    sam = build_sam(tiny_state_dict(), contract.image_size)
    return reference_cases(reference.load(sam, contract))


def plant(source: Path, target: Path, tensor: str, fault: Fault) -> None:
    """Put nodes behind the one that makes `tensor`, whose result they spoil."""
    model = onnx.load(source)
    graph = model.graph
    index = next(i for i, node in enumerate(graph.node) if tensor in node.output)
    node = graph.node[index]
    node.output[0] = f"{tensor}/right"
    for number, new in enumerate(fault(graph, node)):
        graph.node.insert(index + 1 + number, new)
    onnx.save(model, target)


def constant(graph: onnx.GraphProto, name: str, value: object) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return name


def overflow(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    right = node.output[0]
    out = right.removesuffix("/right")
    big = constant(graph, "big", 1e6)
    return [
        helper.make_node("Mul", [right, big], ["huge"]),
        helper.make_node("Cast", ["huge"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], [out], to=onnx.TensorProto.FLOAT),
    ]


def clamp(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    right = node.output[0]
    ends = [constant(graph, "low", -0.01), constant(graph, "high", 0.01)]
    return [helper.make_node("Clip", [right, *ends], [right.removesuffix("/right")])]


def ignore(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    right = node.output[0]
    nothing, drawn = constant(graph, "nothing", 0.0), np.random.default_rng(0)
    shape = next(
        [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        ).graph.value_info
        if info.name == right.removesuffix("/right")
    )
    other = constant(graph, "other", drawn.normal(size=shape))
    return [
        helper.make_node("Mul", [right, nothing], ["zero"]),
        helper.make_node("Add", ["zero", other], [right.removesuffix("/right")]),
    ]


def report_on(folder: Path, bundle: Path, cases: tuple[ImageCase, ...]) -> Report:
    contract = open_bundle(bundle).contract
    predictor = Predictor(
        backend.load(folder / "encoder.onnx", contract.encoder),
        backend.load(bundle / "decoder.onnx", contract.decoder),
        contract,
    )
    return verify.verify(predictor, cases, TOLERANCE)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (overflow, "encoder: half (Cast) has NaN or infinity"),
        (clamp, f"encoder: {LAYER} (Clip) is stuck at"),
    ],
)
def test_a_spoiled_layer_is_named(
    onnx_bundle: Path,
    cases: tuple[ImageCase, ...],
    tmp_path: Path,
    fault: Fault,
    expected: str,
) -> None:
    plant(onnx_bundle / "encoder.onnx", tmp_path / "encoder.onnx", LAYER, fault)
    report = report_on(tmp_path, onnx_bundle, cases)
    assert report.status is Status.FAILED
    assert report.first_wrong.startswith(expected)
    assert expected in report.summary()


def test_a_layer_that_ignores_the_image_is_named(
    onnx_bundle: Path, cases: tuple[ImageCase, ...], tmp_path: Path
) -> None:
    plant(onnx_bundle / "encoder.onnx", tmp_path / "encoder.onnx", LAYER, ignore)
    report = report_on(tmp_path, onnx_bundle, cases)
    assert any("two different images" in failure for failure in report.failures)
    assert report.first_wrong.startswith("encoder: zero (Mul) is the same for two")


def test_what_is_right_is_not_blamed(onnx_bundle: Path, cases: tuple[ImageCase, ...]) -> None:
    report = report_on(onnx_bundle, onnx_bundle, cases)
    assert report.status is Status.PASSED
    assert report.first_wrong == ""


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
def test_no_layer_of_a_right_file_looks_wrong(
    onnx_bundle: Path, cases: tuple[ImageCase, ...], graph: str
) -> None:
    contract = open_bundle(onnx_bundle).contract
    given = [prompts.encoder_inputs(case.image, contract) for case in cases]
    if graph == "decoder":
        prompt = cases[0].prompts[0].prompt
        size = prompts.height_and_width(cases[0].image)
        given = [prompts.decoder_inputs(prompt, c.embeddings, size, contract) for c in cases]
    session = backend.load(onnx_bundle / f"{graph}.onnx", getattr(contract, graph))
    assert session.observe is not None
    seen: list[str] = []
    session.observe(given[0], lambda name, _: seen.append(name))
    assert len(seen) > 100
    assert diagnosis.first_wrong(session.observe, given[0], given[1]) == ""


def test_core_ml_programs_are_looked_into_too(
    coreml_bundle: Path, cases: tuple[ImageCase, ...]
) -> None:
    from mobilesam_export.backends.coreml import backend as coreml

    contract = open_bundle(coreml_bundle).contract
    session = coreml.second_opinion(coreml_bundle / "encoder.mlpackage")
    given = [prompts.encoder_inputs(case.image, contract) for case in cases]
    assert session.observe is not None
    assert diagnosis.first_wrong(session.observe, given[0], given[1]) == ""
    # Two images that are one: every layer is the same, so the first of them is named.
    found = diagnosis.first_wrong(session.observe, given[0], dict(given[0]))
    assert "is the same for two different images" in found


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.linspace(-1, 1, 2000), ""),
        (np.r_[np.zeros(1500), np.linspace(0, 1, 500)], ""),
        (np.r_[np.full(1500, 3.0), np.linspace(0, 2, 500)], "is stuck at 3 in 75%"),
        (np.r_[np.nan, np.linspace(0, 1, 2000)], "has NaN or infinity"),
        (np.r_[np.inf, np.linspace(0, 1, 2000)], "has NaN or infinity"),
    ],
)
def test_one_tensor_by_itself(values: Array, problem: str) -> None:
    assert diagnosis.summarize("x", values).problem.startswith(problem)
    assert bool(diagnosis.summarize("x", values).problem) == bool(problem)


def decoder_inputs(prompt: Prompt, embeddings: Array) -> dict[str, Array]:
    contract = Contract(256, 6, load_target("onnx").graph)
    return prompts.decoder_inputs(prompt, embeddings, (256, 256), contract)


def test_decoders_are_shown_what_depends_on_the_embedding_only(onnx_bundle: Path) -> None:
    inputs = decoder_inputs(Prompt(((9, 9, True),)), np.ones((1, 256, 16, 16), np.float32))
    seen: list[str] = []
    path = onnx_bundle / "decoder.onnx"
    observe.observe(path, inputs, lambda name, _: seen.append(name))
    assert not any("Sin" in name or "Cos" in name for name in seen)
