"""The Apple layout in float16 by Core AI, Apple's own runtime."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import coreai
from mobilesam_export.graphs import split_graphs
from mobilesam_export.metrics import psnr_db
from mobilesam_export.prompts import encoder_inputs
from tests.stress_weights import scale_neck, scale_streams
from tests.test_ranges import CONTRACT, demo, folded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("coreai_torch") is None,
        reason="no Core AI: pip install --group coreai (Python 3.11 to 3.14, glibc 2.34)",
    ),
]


def test_stress_weights_are_right_in_apples_arithmetic(tmp_path: Path) -> None:
    """A LayerNorm whose sums overflow leaves 13 to 20 dB there. The encoder, on one image."""
    _, same, expected = folded(scale_neck(scale_streams(demo(), 64), 200))
    encoder, _ = split_graphs(same, CONTRACT)
    inputs = encoder_inputs(expected[0].image, CONTRACT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter, about torch's version and its own code
        with coreai.session(encoder, tmp_path) as session:
            found = session.run(inputs)["image_embeddings"]
    assert "Core AI" in session.runtime
    assert psnr_db(found, expected[0].embeddings) > 70
