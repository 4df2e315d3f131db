"""litert-torch traces a graph twice, not three times, and writes the same file."""

import contextlib
from unittest import mock

import litert_torch
import torch
from litert_torch._convert import fx_passes
from torch import Tensor, nn

from mobilesam_export.backends.tflite.retracing import without_retracing
from mobilesam_export.quiet import quiet


class Layers(nn.Module):
    """A convolution whose layout the converter changes, what it composes, and a change of axes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, 8, 8) -> (1, 6, 6, 8)."""
        mapped = nn.functional.gelu(self.convolution(image)).permute(0, 2, 3, 1)
        return nn.functional.layer_norm(self.linear(mapped), (8,))


def converted(context: contextlib.AbstractContextManager[None]) -> tuple[bytes, int]:
    """The file of `Layers`, and how often the graph was traced for it."""
    decompose = torch.export.ExportedProgram.run_decompositions
    counted = mock.patch.object(
        torch.export.ExportedProgram, "run_decompositions", autospec=True, side_effect=decompose
    )
    with quiet(), context, counted as traces:
        model = litert_torch.convert(Layers().eval(), (torch.zeros(1, 3, 8, 8),))
    return model.model_content(), traces.call_count


def test_a_trace_fewer_gives_the_same_file() -> None:
    usual, usual_traces = converted(contextlib.nullcontext())
    fewer, fewer_traces = converted(without_retracing())
    assert (fewer, fewer_traces) == (usual, usual_traces - 1)


def test_a_converter_without_that_pass_is_left_as_it_is() -> None:
    with mock.patch.object(fx_passes, "CanonicalizePass", None), without_retracing():
        assert fx_passes.CanonicalizePass is None
