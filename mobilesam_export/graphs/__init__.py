"""The model split into the two graphs that a bundle holds, in export form.

In: a `Sam` and a `Contract`. Out: two `Graph`s, whose modules converters take as they are, or for a
fused contract the halves of one.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam_export.contract import Array, Contract, GraphSpec, TensorSpec
from mobilesam_export.graphs import decoder_batch_one
from mobilesam_export.graphs.decoder import SamDecoder, SlotDecoder
from mobilesam_export.graphs.decoder_sets import SetsDecoder
from mobilesam_export.graphs.encoder import Encoder
from mobilesam_export.graphs.pointwise import with_short_products
from mobilesam_export.graphs.prepared import Prepare, PreparedDecoder
from mobilesam_export.graphs.segmenter import QueryDecoder, Segmenter
from mobilesam_export.model import Sam
from mobilesam_export.session import Session

__all__ = [
    "Graph",
    "as_session",
    "batch_graph",
    "file_graphs",
    "further_graphs",
    "in_float16",
    "prepared_graphs",
    "split_graphs",
]

# Sizes for tracing where an axis is dynamic: anything but 0 and 1 will do.
EXAMPLE_AXES = {"height": 192, "width": 224, "num_points": 3}


@dataclass(frozen=True)
class Graph:
    """A module in export form, and the interface that its file will have.

    Attributes:
        spec: the interface of the file.
        module: takes what `module_inputs` gives it, in order.
        image_input: whether the runtime hands the module an image and not the contract's array:
            Core ML turns its image input into (1, 3, S, S) float32 RGB 0..255, nothing subtracted.
    """

    spec: GraphSpec
    module: nn.Module
    image_input: bool = False

    def module_inputs(self, inputs: Mapping[str, Array]) -> tuple[Tensor, ...]:
        """The contract's arrays by name -> the module's tensors, in order.

        `orig_im_size` of the "sam" contract is left out: the module does not have it.
        """
        names = [spec.name for spec in self.spec.inputs if spec.name != "orig_im_size"]
        tensors = tuple(torch.from_numpy(np.asarray(inputs[name])) for name in names)
        if not self.image_input:
            return tensors
        (image,) = tensors  # (1, S, S, 3) uint8
        return (image.to(torch.float32).permute(0, 3, 1, 2).contiguous(),)

    def example_inputs(self, seed: int = 0) -> tuple[Tensor, ...]:
        """The module's inputs with plausible values, to trace it."""
        generator = torch.Generator().manual_seed(seed)
        return self.module_inputs(
            {
                spec.name: _example(spec, generator).numpy()
                for spec in self.spec.inputs
                if spec.name != "orig_im_size"
            }
        )


def split_graphs(sam: Sam, contract: Contract) -> tuple[Graph, Graph]:
    """Make the encoder and the decoder of a loaded model.

    `orig_im_size` and `masks` of the "sam" contract are not in the module: only an ONNX graph
    can resize to a size that is an input, so that backend adds them.
    """
    encoder = Encoder(sam, contract.form)
    decoder = _in_form(_decoder(sam, contract), contract)
    return (
        Graph(
            contract.encoder,
            encoder.eval().requires_grad_(False),
            image_input=contract.form.image_input == "image",
        ),
        Graph(contract.decoder, decoder.eval().requires_grad_(False)),
    )


def file_graphs(halves: tuple[Graph, Graph], contract: Contract) -> tuple[Graph, ...]:
    """Encoder and decoder as files take them: each its own, or one file both."""
    if not contract.fused:
        return halves
    encoder, decoder = (half.module for half in halves)
    return (Graph(contract.segmenter, Segmenter(encoder, decoder).eval()),)


def batch_graph(sam: Sam, contract: Contract) -> Graph | None:
    """The decoder of prompt sets, in one form for every layout; None if the contract has none."""
    if not contract.sets:
        return None
    module = _in_form(SetsDecoder(sam, contract.points, contract.sets), contract)
    return Graph(contract.decoder_batch, module.eval().requires_grad_(False))


def prepared_graphs(sam: Sam, contract: Contract) -> tuple[Graph, Graph]:
    """`prepare` and `decoder_prepared`, in one form for every layout."""
    prepare, decoder = (
        _in_form(module, contract)
        for module in (Prepare(sam), PreparedDecoder(sam, contract.points))
    )
    return (
        Graph(contract.prepare, prepare.eval().requires_grad_(False)),
        Graph(contract.decoder_prepared, decoder.eval().requires_grad_(False)),
    )


def further_graphs(sam: Sam, contract: Contract) -> tuple[Graph, ...]:
    """Those beside encoder and decoder that the contract has, in its order."""
    batch = batch_graph(sam, contract)
    prepared = prepared_graphs(sam, contract) if contract.split else ()
    return (*prepared,) if batch is None else (batch, *prepared)


def as_session(graph: Graph) -> Session:
    """The export form run by PyTorch as it is, with the inputs and outputs of its file.

    Not for the decoder of the "sam" contract, whose last steps are in no module.
    """

    @torch.inference_mode()
    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        outputs = graph.module(*graph.module_inputs(inputs))
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        named = zip(graph.spec.outputs, tensors, strict=True)
        return {spec.name: tensor.numpy() for spec, tensor in named}

    return Session(run, f"PyTorch {torch.__version__}, CPU, export form")


def _decoder(sam: Sam, contract: Contract) -> nn.Module:
    if contract.dynamic:
        return SamDecoder(sam)
    if contract.fused:
        return QueryDecoder(sam, contract.points)
    if contract.form.layout == "batch-one":
        return decoder_batch_one.SlotDecoder(sam, contract.points, contract.form.upsampling)
    return SlotDecoder(sam, contract.points)


def _in_form(decoder: nn.Module, contract: Contract) -> nn.Module:
    """A decoder with the products that the form asks for."""
    short = contract.form.products == "short"
    return with_short_products(decoder, contract.size) if short else decoder


def _example(spec: TensorSpec, generator: torch.Generator) -> Tensor:
    shape = [EXAMPLE_AXES[axis] if isinstance(axis, str) else axis for axis in spec.shape]
    if spec.name in ("image", "input_image"):
        pixels = torch.randint(0, 256, shape, generator=generator)
        return pixels.to(getattr(torch, spec.dtype))
    if spec.name.endswith("point_labels"):
        return torch.ones(shape)
    if spec.name in ("point_coords", "batched_points"):
        return 256 * torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)


def in_float16(module: nn.Module, kept: Collection[str]) -> nn.Module:
    """A copy with weights in float16, but for modules of these classes, which stay float32."""
    half = copy.deepcopy(module).half()
    for part in half.modules():
        if type(part).__name__ in kept:
            part.float()
    return half
