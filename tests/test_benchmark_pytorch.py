"""PyTorch as a runtime, on the CPU; what needs a GPU says so."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import gpu, gpu_subject
from mobilesam_export import prompts
from mobilesam_export.backends import reference
from mobilesam_export.backends.onnx import runtime
from mobilesam_export.benchmark.measure import bundle_subjects
from mobilesam_export.benchmark.pytorch import (
    KEEP_FLOAT32,
    PytorchMode,
    _Runner,
    in_precision,
    open_graph,
)
from mobilesam_export.benchmark.pytorch_subjects import parse_modes
from mobilesam_export.benchmark.subject import graph_inputs
from mobilesam_export.benchmark.timing import Schedule
from mobilesam_export.bundle.manifest import open_bundle
from mobilesam_export.contract import Array, plain_contract
from mobilesam_export.contract.frame import Frame, square
from mobilesam_export.errors import BackendError, UsageError
from mobilesam_export.graphs import split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.model import Sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.verification import cases
from mobilesam_export.verification.cases import ImageCase
from tests.conftest import SIZE

CONTRACT = plain_contract(SIZE, 6)


@pytest.fixture(scope="module")
def case(sam: Sam) -> ImageCase:
    return cases.reference_cases(reference.load(sam, CONTRACT))[0]


def inputs(case: ImageCase, graph: str) -> dict[str, Array]:
    return graph_inputs(case, CONTRACT, graph)


def test_eager_float32_is_the_reference(sam: Sam, case: ImageCase) -> None:
    mode = PytorchMode("eager", "float32", "cpu")
    encoder, decoder = (open_graph(sam, CONTRACT, name, mode) for name in ("encoder", "decoder"))
    found = encoder.run(inputs(case, "encoder"))["image_embeddings"]
    np.testing.assert_allclose(found, case.embeddings, atol=1e-4)
    outputs = decoder.run(inputs(case, "decoder"))
    for name, expected in case.prompts[0].answer.outputs.items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-3)


def test_bfloat16_is_near_and_says_what_it_is(sam: Sam, case: ImageCase) -> None:
    session = open_graph(sam, CONTRACT, "encoder", PytorchMode("eager", "bfloat16", "cpu"))
    found = session.run(inputs(case, "encoder"))["image_embeddings"]
    assert found.dtype == np.float32
    assert psnr_db(found, case.embeddings) > 25
    assert "eager:bfloat16" in session.runtime


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_positions_and_pixels_stay_float32(sam: Sam, name: str) -> None:
    graph = next(g for g in split_graphs(sam, CONTRACT) if g.spec.name == name)
    before = {key: value.dtype for key, value in graph.module.state_dict().items()}
    half = in_precision(graph.module, torch.float16)
    kept = [part for part in half.modules() if isinstance(part, KEEP_FLOAT32)]
    assert kept
    assert {v.dtype for part in kept for v in part.state_dict().values()} == {torch.float32}
    everything = {v.dtype for v in half.state_dict().values()}
    assert everything == {torch.float16, torch.float32}
    after = {key: value.dtype for key, value in graph.module.state_dict().items()}
    assert before == after, "what was handed in is not changed"


def test_the_decoder_makes_its_constants_where_its_inputs_are(sam: Sam) -> None:
    """On a device that is not the default: the meta device has shapes and no data."""
    graph = split_graphs(sam, CONTRACT)[1]
    module = in_precision(graph.module, torch.float16).to("meta")
    given = [torch.zeros(s.shape, device="meta") for s in graph.spec.inputs]  # type: ignore[arg-type]
    masks, iou = module(*given)
    assert (masks.device.type, tuple(masks.shape)) == ("meta", (1, 4, SIZE // 4, SIZE // 4))
    assert tuple(iou.shape) == (1, 4)


@pytest.mark.slow
def test_compiled_is_the_reference(sam: Sam, case: ImageCase) -> None:
    session = open_graph(sam, CONTRACT, "decoder", PytorchMode("compiled", "float32", "cpu"))
    outputs = session.run(inputs(case, "decoder"))
    for name, expected in case.prompts[0].answer.outputs.items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-3)


def test_what_is_not_here_is_said(sam: Sam) -> None:
    assert (
        PytorchMode("cuda-graph", "float16", "cpu").why_unavailable()
        == "CUDA graphs need --device cuda"
    )
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="on cuda: no GPU here"):
            open_graph(sam, CONTRACT, "encoder", PytorchMode("eager", "float16", "cuda"))


def test_ways_are_parsed() -> None:
    modes = parse_modes(["eager", "compiled:bfloat16"], "cpu")
    assert modes == [
        PytorchMode("eager", "float32", "cpu"),
        PytorchMode("compiled", "bfloat16", "cpu"),
    ]
    for text in ("jit", "eager:int8", ""):
        with pytest.raises(UsageError, match="expected one of eager"):
            parse_modes([text], "cpu")
    with pytest.raises(UsageError, match="not on tensorrt"):
        parse_modes(["eager"], "tensorrt")


def test_limits_are_judged_by_the_fastest_right_answer() -> None:
    def row(subject: str, median_ms: float, *, wrong: bool = False) -> dict[str, object]:
        return {
            "subject": subject,
            "component": "encoder",
            "median_ms": median_ms,
            "wrong": wrong,
        }

    found = gpu.judged([row("wrong", 0.1, wrong=True), row("slow", 9.0), row("slower", 10.0)])
    assert found["encoder"] == {
        "limit_ms": 0.6,
        "median_ms": 9.0,
        "way": "slow",
        "verdict": "fail",
    }
    assert found["decoder"]["verdict"].startswith("unverified")
    assert gpu.judged([row("fast", 0.5)])["encoder"]["verdict"] == "pass"


def test_a_subject_that_cannot_run_is_named_with_its_reason(onnx_bundle: Path) -> None:
    work = [gpu_subject.Work("no such kind"), gpu_subject.Work("onnxruntime", "tensorrt", True)]
    found = gpu.run_all(work, [onnx_bundle], seconds=120)
    assert found["rows"] == []
    assert found["unverified"]["no such kind"] == "no such subject: no such kind"
    assert "TensorrtExecutionProvider" in found["unverified"]["onnxruntime tensorrt"]


def test_a_row_says_what_was_timed_and_whether_it_was_right(onnx_bundle: Path) -> None:
    subjects = bundle_subjects(open_bundle(onnx_bundle), "cpu", 1)
    wrong = replace(subjects[0].tolerance, embedding_psnr_db=1e9)
    held = []

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        held.append("taken")
        yield

    schedule = Schedule(warmup=0, rounds=3)
    rows = gpu_subject.timed_subjects([replace(subjects[0], tolerance=wrong)], lock, schedule)
    assert held == ["taken"]
    assert [row["component"] for row in rows] == list(gpu_subject.COMPONENTS)
    assert [row["wrong"] for row in rows] == [True, False, False, False]
    assert all(row["median_ms"] > 0 for row in rows)


def test_onnx_files_run_again_on_inputs_that_lie_on_a_device(onnx_bundle: Path) -> None:
    opened = open_bundle(onnx_bundle)
    path, given = onnx_bundle / "encoder.onnx", np.zeros((1, SIZE, SIZE, 3), np.uint8)
    options = {"providers": ["CPUExecutionProvider"]}
    rerun, fetch = runtime._resident(
        onnxruntime.InferenceSession(path, **options), "cpu", {"image": given}
    )
    rerun()
    expected = opened.session("encoder", "cpu", 1).run({"image": given})
    for name, value in fetch().items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_a_mask_of_the_device_is_the_host_s(sam: Sam) -> None:
    session = _Runner(split_graphs(sam, CONTRACT)[1], PytorchMode("eager", "float32", "cpu"))
    logits = np.random.default_rng(0).standard_normal((SIZE // 4, SIZE // 4)).astype(np.float32)
    for size in ((SIZE, SIZE), (190, SIZE), (97, 311)):
        expected = prompts.upscale(logits, size, square(SIZE)) > 0
        assert np.mean(session.mask(logits, size, square(SIZE)) != expected) < 1e-4


def test_a_predictor_takes_the_mask_of_its_device(sam: Sam, case: ImageCase) -> None:
    mode = PytorchMode("eager", "float32", "cpu")
    encoder, decoder = (open_graph(sam, CONTRACT, name, mode) for name in ("encoder", "decoder"))

    def mask(low_res: Array, size: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        return np.full(size, fill_value=low_res.shape == frame.over(4))

    predictor = Predictor(encoder, replace(decoder, mask=mask), CONTRACT)
    answer = predictor.predict(case.prompts[0].prompt, case.embedded)
    assert answer.mask.shape == case.embedded.size
    assert answer.mask.all()


def test_what_cannot_have_changed_is_not_copied_again(sam: Sam, case: ImageCase) -> None:
    runner = _Runner(split_graphs(sam, CONTRACT)[1], PytorchMode("eager", "float32", "cpu"))
    given = inputs(case, "decoder")
    fixed = given["image_embeddings"].copy()
    fixed.setflags(write=False)
    runner.put({**given, "image_embeddings": fixed})
    kept = runner.buffers[0]
    kept.zero_()
    runner.put({**given, "image_embeddings": fixed})
    assert not kept.any(), "the same array that nobody can write to"
    runner.put({**given, "image_embeddings": given["image_embeddings"]})
    assert kept.any(), "another array"
    kept.zero_()
    runner.put(given)
    assert kept.any(), "the same array, which may have been written to"


def test_without_a_gpu_nothing_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    gpu.main(["anything"])
    assert capsys.readouterr().out == "unverified: no GPU here\n"
