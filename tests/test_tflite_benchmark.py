"""What the benchmark of the `tflite` target compares with is the model, and its counts are right."""

from pathlib import Path

import numpy as np
import torch

from benchmarks import tflite_cpu, tflite_memory
from benchmarks.naive_form import NaiveDecoder, NaiveEncoder
from mobilesam_export.backends import reference
from mobilesam_export.contract import Contract
from mobilesam_export.model import Sam
from mobilesam_export.target import load_target

SIZE, TOLERANCE = 256, 2e-5


def contract() -> Contract:
    return Contract(SIZE, tflite_cpu.SLOTS, load_target("tflite").graph)


def test_the_naive_encoder_is_the_model(sam: Sam) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    given = tflite_cpu.naive_inputs({"image": pixels}, "encoder", SIZE)
    with torch.no_grad():
        found = NaiveEncoder(sam)(torch.from_numpy(given["image"]))
    expected = reference.load(sam, contract())[0].run({"image": pixels})["image_embeddings"]
    assert np.abs(found.numpy() - expected).max() <= TOLERANCE


def test_the_naive_decoder_is_the_model_for_clicks_in_all_slots(sam: Sam) -> None:
    run = tflite_cpu.recipes.Run("seeded", sam, SIZE, 1, Path())
    inputs, expected = tflite_cpu.questions(run, contract())
    given = tflite_cpu.naive_inputs(inputs["decoder"], "decoder", SIZE)
    with torch.no_grad():
        found = NaiveDecoder(sam)(*(torch.from_numpy(values) for values in given.values()))
    for values, right in zip(found, expected["decoder"].values(), strict=True):
        assert np.abs(values.numpy() - right).max() <= TOLERANCE
