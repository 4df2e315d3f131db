"""An image larger than S is an error of the runtime: SAM's own contract takes any H and W."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from mobilesam_export.backends.onnx.image_limit import refuse_larger_images
from mobilesam_export.graphs.encoder import SamPixelsInput
from mobilesam_export.quiet import quiet

SIDE = 64
NAME = f"image_height_and_width_up_to_{SIDE}"


@pytest.fixture(scope="module")
def session() -> Any:
    """The encoder's first layers as they are exported: what pads, and a convolution."""
    module = torch.nn.Sequential(SamPixelsInput(SIDE), torch.nn.Conv2d(3, 4, 3)).eval()
    height, width = torch.export.Dim("height", max=SIDE), torch.export.Dim("width", max=SIDE)
    with quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(40, 50, 3),),
            dynamo=True,
            opset_version=20,
            dynamic_shapes=[{0: height, 1: width}],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    refuse_larger_images(model, SIDE)
    opened = onnxruntime.InferenceSession(model.SerializeToString())
    name = opened.get_inputs()[0].name
    return lambda image: (opened.run(None, {name: image})[0], module(torch.from_numpy(image)))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 1), (1, 64), (33, 57)])
def test_an_image_that_fits_is_computed_as_before(session: Any, height: int, width: int) -> None:
    image = np.random.default_rng(1).uniform(0, 255, (height, width, 3)).astype(np.float32)
    answer, expected = session(image)
    np.testing.assert_allclose(answer, expected.detach().numpy(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(65, 64), (64, 65), (65, 10), (128, 32), (32, 128)])
def test_a_larger_image_is_an_error_of_the_runtime(session: Any, height: int, width: int) -> None:
    with pytest.raises((Fail, RuntimeException), match=NAME):
        session(np.zeros((height, width, 3), np.float32))
