"""Verification passes what is right and catches planted faults."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilesam_export import metrics
from mobilesam_export.backends import reference
from mobilesam_export.contract import Array, Contract
from mobilesam_export.model import build_sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.target import load_target
from mobilesam_export.verification import verify
from mobilesam_export.verification.cases import ImageCase, logits_spread, reference_cases
from mobilesam_export.verification.report import Report, unverified
from mobilesam_export.verification.status import Status
from tests.conftest import tiny_state_dict

CONTRACT = Contract(256, 6, load_target("onnx").graph)
FLOAT16 = load_target("onnx").recipes["float16"].tolerance
Outputs = dict[str, Array]


@cache
def right() -> Predictor:
    return reference.load(build_sam(tiny_state_dict(), 256), CONTRACT)


@cache
def cases() -> tuple[ImageCase, ...]:
    return reference_cases(right())


def verify_with(
    encoder_fault: Callable[[Outputs], Outputs] = dict,
    decoder_fault: Callable[[Outputs], Outputs] = dict,
    largest: tuple[str, float] = ("", 0.0),
) -> Report:
    encoder, decoder = right().encoder, right().decoder
    faulty = replace(
        right(),
        encoder=replace(
            encoder, run=lambda i: encoder_fault(encoder.run(i)), largest=lambda _: largest
        ),
        decoder=replace(decoder, run=lambda i: decoder_fault(decoder.run(i))),
    )
    report = verify.verify(faulty, cases(), FLOAT16)
    assert verify.holds(faulty, cases(), FLOAT16) == (report.status is Status.PASSED)
    return report


def embedding(change: Callable[[Array], Array]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {"image_embeddings": change(outputs["image_embeddings"])}


def test_the_reference_equals_itself_exactly() -> None:
    report = verify_with()
    assert report.status is Status.PASSED
    assert all(item.mask_iou == 1 for item in report.prompts)
    assert all(np.isinf(item.psnr_db) for item in report.embeddings)
    assert report.as_dict()["embeddings"][0]["psnr_db"] is None


def test_all_kinds_of_prompts_are_asked() -> None:
    names = ["click", "clicks", "box", "box-click", "click-mask"]
    assert [item.prompt for item in verify_with().prompts] == names * 2


def test_two_slots_are_asked_what_fits() -> None:
    contract = replace(CONTRACT, points=2)
    model = build_sam(tiny_state_dict(), 256)
    small = reference_cases(reference.load(model, contract))
    assert [item.name for item in small[0].prompts] == ["click", "box", "click-mask"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (embedding(lambda e: np.full_like(e, 0.5)), "standard deviation"),
        (embedding(lambda e: cases()[0].embeddings), "two different images"),
        (embedding(lambda e: np.full_like(e, np.nan)), "NaN or infinity"),
        (embedding(lambda e: np.where(e > 3, np.inf, e)), "NaN or infinity"),
        (embedding(lambda e: e.clip(-0.5, 0.5)), "PSNR"),
        (embedding(lambda e: e * 3), "standard deviation"),
        (embedding(lambda e: e + np.float32(0.05)), "PSNR"),
        (embedding(lambda e: e.transpose(0, 1, 3, 2)), "PSNR"),
    ],
)
def test_a_broken_encoder_fails(fault: Callable[[Outputs], Outputs], message: str) -> None:
    report = verify_with(encoder_fault=fault)
    assert report.status is Status.FAILED
    assert any(message in failure for failure in report.failures)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda o: {**o, "low_res_masks": o["low_res_masks"] + 1}, "logits"),
        (lambda o: {**o, "low_res_masks": o["low_res_masks"] * np.nan}, "logits"),
        (lambda o: {**o, "low_res_masks": -o["low_res_masks"]}, "mask IoU"),
        (lambda o: {**o, "iou_predictions": o["iou_predictions"] + 0.02}, "IoU 0.02 off"),
    ],
)
def test_a_broken_decoder_fails(fault: Callable[[Outputs], Outputs], message: str) -> None:
    report = verify_with(decoder_fault=fault)
    assert report.status is Status.FAILED
    assert any(message in failure for failure in report.failures)


def test_a_mean_mask_iou_that_is_asked_for_and_not_reached_fails() -> None:
    first, *others = cases()[0].prompts
    other = replace(first, answer=replace(first.answer, mask=~first.answer.mask))
    spoiled = (replace(cases()[0], prompts=(other, *others)), *cases()[1:])
    count = sum(len(case.prompts) for case in cases())
    mean = 1 - 1 / count  # one of them has nothing in common

    def failures(least: float) -> tuple[str, ...]:
        tolerance = replace(FLOAT16, mask_iou=0, mean_mask_iou=least)
        found = verify.verify(right(), spoiled, tolerance).failures
        assert verify.holds(right(), spoiled, tolerance) == (not found)
        return found

    assert failures(mean - 0.01) == ()
    assert failures(0.99) == (f"mean mask IoU {mean:.4f}, expected >= 0.99",)


@pytest.mark.parametrize(("mean", "images"), [(0.0, 2), (0.94, 1)])
def test_whether_it_holds_is_told_by_as_few_images_as_it_takes(mean: float, images: int) -> None:
    first, *others = cases()[0].prompts
    other = replace(first, answer=replace(first.answer, mask=~first.answer.mask))
    spoiled = (replace(cases()[0], prompts=(other, *others)), *cases()[1:])
    encoder = right().encoder
    run = Mock(side_effect=encoder.run)
    counted = replace(right(), encoder=replace(encoder, run=run))
    verify.holds(counted, spoiled, replace(FLOAT16, mask_iou=0, mean_mask_iou=mean))
    assert run.call_count == images


def test_a_broken_encoder_is_not_blamed_on_the_decoder() -> None:
    report = verify_with(encoder_fault=embedding(lambda e: e * 3))
    assert max(item.logits_max_abs_error for item in report.prompts) > 0.2
    assert max(item.decoder_logits_max_abs_error for item in report.prompts) == 0


def test_another_best_mask_is_counted() -> None:
    def reverse(outputs: Outputs) -> Outputs:
        return {**outputs, "iou_predictions": outputs["iou_predictions"][:, [0, 3, 1, 2]]}

    assert sum(item.best_mask_changed for item in verify_with(decoder_fault=reverse).prompts) > 0


def with_predictions(*ious: float) -> Predictor:
    """The reference with these in place of its predicted IoU."""
    decoder, predicted = right().decoder, np.array([ious], np.float32)
    run = decoder.run
    return replace(
        right(), decoder=replace(decoder, run=lambda i: {**run(i), "iou_predictions": predicted})
    )


def test_a_flip_of_a_tie_is_reported_and_no_error() -> None:
    tied = reference_cases(with_predictions(0.5, 0.6, 0.601, 0.1))
    report = verify.verify(with_predictions(0.5, 0.601, 0.6, 0.1), tied, FLOAT16)
    clicks = [item for item in report.prompts if item.prompt == "click"]
    assert report.status is Status.PASSED
    assert all(item.tie_flipped and item.mask_iou == 1 for item in clicks)
    assert "of them ties" in report.summary()


def test_another_mask_than_a_clearly_best_one_is_an_error() -> None:
    clear = reference_cases(with_predictions(0.5, 0.6, 0.7, 0.1))
    report = verify.verify(with_predictions(0.5, 0.7, 0.6, 0.1), clear, FLOAT16)
    assert not any(item.tie_flipped for item in report.prompts)
    assert any("click: mask IoU" in failure for failure in report.failures)


def square_at(left: int) -> Predictor:
    """Answers every prompt with a square 200 pixels wide from there on, a multiple of 4."""
    logits = np.full((1, 4, 64, 64), -1, np.float32)
    logits[:, :, 7:57, left // 4 : left // 4 + 50] = 1
    outputs = {"low_res_masks": logits, "iou_predictions": np.full((1, 4), 0.9, np.float32)}
    return replace(right(), decoder=replace(right().decoder, run=lambda _: dict(outputs)))


def test_a_wrong_outline_of_a_large_mask_fails_though_the_mask_holds() -> None:
    loose = replace(FLOAT16, mask_iou=0.95, logits_error=100)
    found = verify.verify(square_at(32), reference_cases(square_at(28)), loose)
    assert all("boundary IoU" in failure for failure in found.failures)
    assert len(found.failures) == len(found.prompts)
    assert min(item.mask_iou for item in found.prompts) > 0.95


@given(iou=st.floats(0, 1))
def test_the_limit_of_outlines_is_looser_than_that_of_masks(iou: float) -> None:
    assert 0 <= replace(FLOAT16, mask_iou=iou).boundary_iou <= iou


@pytest.mark.parametrize("scale", [0.01, 1, 1000])
@pytest.mark.parametrize(("error", "passes"), [(0.5, True), (2, False)])
def test_errors_of_logits_are_judged_by_the_spread_of_the_reference_s(
    scale: float, error: float, passes: bool
) -> None:
    """`error`: of what the tolerance allows."""
    decoder, spread = right().decoder, logits_spread(cases())

    def scaled(offset: float) -> Predictor:
        def run(inputs: Outputs) -> Outputs:
            outputs = decoder.run(inputs)
            return {**outputs, "low_res_masks": (outputs["low_res_masks"] + offset) * scale}

        return replace(right(), decoder=replace(decoder, run=run))

    expected = reference_cases(scaled(0))
    report = verify.verify(scaled(error * FLOAT16.logits_error * spread), expected, FLOAT16)
    assert any("logits" in failure for failure in report.failures) != passes


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_a_float16_overflow_fails_though_the_answer_is_right(value: float) -> None:
    report = verify_with(largest=("layer_3", value))
    assert report.status is Status.FAILED
    assert report.failures[0].startswith("layer_3 reaches")


def test_summaries_say_the_state_first() -> None:
    assert verify_with().summary().startswith("verified (PyTorch")
    assert verify_with(largest=("x", 1e6)).summary().startswith("FAILED (PyTorch")
    assert unverified("no Mac").summary() == "unverified: no Mac"


def test_mask_iou_of_known_masks() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert metrics.mask_iou(a, b) == pytest.approx(1 / 3)
    assert metrics.mask_iou(a & ~a, b & ~b) == 1


def test_psnr_of_known_arrays() -> None:
    expected = np.array([10.0, -5.0])
    assert metrics.psnr_db(expected + 0.1, expected) == pytest.approx(40)  # 20 log10(10 / 0.1)
