"""What the benchmark of the `tflite` target compares with is the model; its counts are right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import recipes, tflite_cpu, tflite_memory
from benchmarks.naive_form import NaiveDecoder, NaiveEncoder
from mobilesam_export.backends import reference
from mobilesam_export.contract import Contract
from mobilesam_export.model import Sam
from mobilesam_export.target import load_target
from tests.conftest import WEIGHTS

SIZE, TOLERANCE = 256, 2e-5


def contract() -> Contract:
    return Contract(SIZE, tflite_cpu.SLOTS, load_target("tflite").graph)


def test_the_naive_encoder_is_the_model(sam: Sam) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    given = tflite_cpu.naive_inputs({"image": pixels}, "encoder", SIZE)
    with torch.no_grad():
        found = NaiveEncoder(sam)(torch.from_numpy(given["image"]))
    expected = reference.load(sam, contract()).encoder.run({"image": pixels})["image_embeddings"]
    assert np.abs(found.numpy() - expected).max() <= TOLERANCE


def test_the_naive_decoder_is_the_model_for_clicks_in_all_slots(sam: Sam) -> None:
    run = recipes.Run(WEIGHTS, sam, SIZE, 1, Path())
    inputs, expected = tflite_cpu.questions(run, contract())
    given = tflite_cpu.naive_inputs(inputs["decoder"], "decoder", SIZE)
    with torch.no_grad():
        found = NaiveDecoder(sam)(*(torch.from_numpy(values) for values in given.values()))
    for values, right in zip(found, expected["decoder"].values(), strict=True):
        assert np.abs(values.numpy() - right).max() <= TOLERANCE


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells")
def test_memory_is_counted_in_three_ways(export: Callable[..., Path]) -> None:
    """The planner cannot hold less than what is live, nor the process less than its weights."""
    folder = export("tflite", "-c", WEIGHTS, "--image-size", str(SIZE), "-r", "float32")
    path = folder / "encoder.tflite"
    found = tflite_memory.measure(path)
    assert 0.9 * found["live"] <= found["arena"] <= 3 * found["live"]
    assert found["live"] >= SIZE**2 * 3 * 4  # the centred image
    assert found["process"] >= 0.9 * path.stat().st_size


def test_files_answer_what_pytorch_answers(export: Callable[..., Path], sam: Sam) -> None:
    folder = export("tflite", "-c", WEIGHTS, "--image-size", str(SIZE), "-r", "float32")
    run = recipes.Run(WEIGHTS, sam, SIZE, 1, Path())
    inputs, expected = tflite_cpu.questions(run, contract())
    for graph, answers in expected.items():
        file = tflite_cpu.File(folder / f"{graph}.tflite", inputs[graph], list(answers))
        file.run()
        for found, right in zip(file.answers(), answers.values(), strict=True):
            assert np.abs(found - right).max() <= 1e-4
