"""The model split into the two graphs that a bundle holds, in export form.

In: a `Sam` and a `Contract`. Out: two `Graph`s, whose modules converters take as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobilesam_export.contract import Contract, GraphSpec, TensorSpec
from mobilesam_export.graphs import decoder_batch_one
from mobilesam_export.graphs.decoder import SamDecoder, SlotDecoder
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.model import Sam

__all__ = ["Graph", "split_graphs"]

# Sizes for tracing where an axis is dynamic: anything but 0 and 1 will do.
EXAMPLE_AXES = {"height": 192, "width": 224, "num_points": 3}


@dataclass(frozen=True)
class Graph:
    """A module in export form, and the interface that its file will have."""

    spec: GraphSpec
    module: nn.Module

    def example_inputs(self, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs of the right shapes and types, in order, with plausible values."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            _example(spec, generator) for spec in self.spec.inputs if spec.name != "orig_im_size"
        )


def split_graphs(sam: Sam, contract: Contract) -> tuple[Graph, Graph]:
    """Make the encoder and the decoder of a loaded model.

    `orig_im_size` and `masks` of the "sam" contract are not in the module: only an ONNX graph
    can resize to a size that is an input, so that backend adds them.
    """
    encoder = Encoder(sam, contract.form)
    decoder = _decoder(sam, contract)
    return (
        Graph(contract.encoder, encoder.eval().requires_grad_(False)),
        Graph(contract.decoder, decoder.eval().requires_grad_(False)),
    )


def _decoder(sam: Sam, contract: Contract) -> nn.Module:
    if contract.dynamic:
        return SamDecoder(sam)
    if contract.form.layout == "batch-one":
        return decoder_batch_one.SlotDecoder(sam, contract.points, contract.form.upsampling)
    return SlotDecoder(sam, contract.points)


def _example(spec: TensorSpec, generator: torch.Generator) -> Tensor:
    shape = [EXAMPLE_AXES[axis] if isinstance(axis, str) else axis for axis in spec.shape]
    if spec.name in ("image", "input_image"):
        pixels = torch.randint(0, 256, shape, generator=generator)
        return pixels.to(getattr(torch, spec.dtype))
    if spec.name == "point_labels":
        return torch.ones(shape)
    if spec.name == "point_coords":
        return 256 * torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)
