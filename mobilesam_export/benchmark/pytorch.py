"""PyTorch as a runtime: the export form of the graphs, run eagerly, compiled, or as a CUDA graph.

In float16 and bfloat16, positions and pixels stay float32: neighbouring pixels above 1024 cannot
be told apart in either, and neither represents the mean that is subtracted from pixels.
On CUDA LayerNorm and softmax sum in float32 anyway.

Tests run on the CPU; one H200 has run it all (`benchmarks/results/gpu.json`).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.contract.frame import Frame
from mobilesam_export.errors import BackendError, first_line
from mobilesam_export.graphs import Graph, split_graphs
from mobilesam_export.graphs.decoder import PointTokens
from mobilesam_export.graphs.encoder import PixelsInput, SamPixelsInput
from mobilesam_export.model import Sam
from mobilesam_export.session import Session

KEEP_FLOAT32 = (PointTokens, PixelsInput, SamPixelsInput)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MODES = ("eager", "compiled", "cuda-graph")
CAPTURE_WARMUP = 3  # runs before a capture, so that nothing is allocated or tuned within


@dataclass(frozen=True)
class PytorchMode:
    """One way for PyTorch to run a graph.

    Attributes:
        execution: "eager"; "compiled" by torch.compile; "cuda-graph": compiled and captured, so
            that one launch replays every kernel.
        precision: of weights and activations, a key of DTYPES.
        device: "cpu" or "cuda".
    """

    execution: str
    precision: str
    device: str

    def __str__(self) -> str:
        """Execution and precision, as on the command line."""
        return f"{self.execution}:{self.precision}"

    def why_unavailable(self) -> str:
        """Why it cannot be run here; "" if it can."""
        if self.device == "cuda" and not torch.cuda.is_available():
            return "no GPU here"
        if self.execution == "cuda-graph" and self.device != "cuda":
            return "CUDA graphs need --device cuda"
        return ""


def open_graph(sam: Sam, contract: Contract, name: str, mode: PytorchMode) -> Session:
    """Make the encoder or the decoder of a model ready to run.

    Args:
        sam: with its weights; it is not changed.
        contract: see `contract.plain_contract`.
        name: "encoder" or "decoder".
        mode: how to run it.

    Raises:
        BackendError: it cannot be run here, or torch fails.
    """
    if reason := mode.why_unavailable():
        raise BackendError(f"cannot run PyTorch on {mode.device}: {reason}")
    graph = next(g for g in split_graphs(sam, contract) if g.spec.name == name)
    # For the whole process. Otherwise cuDNN takes float32 convolutions in TF32, with 10 bits of
    # fraction: embeddings of 80 dB on an H200.
    torch.backends.cudnn.allow_tf32 = False
    return _Runner(graph, mode).session()


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in another type, but for what must stay float32."""
    module = copy.deepcopy(module).to(dtype)
    for child in module.modules():
        if isinstance(child, KEEP_FLOAT32):
            child.float()
    return module


class _Runner:
    """One graph with buffers for its inputs, which a CUDA graph reads at fixed addresses."""

    def __init__(self, graph: Graph, mode: PytorchMode) -> None:
        self.spec, self.mode = graph.spec, mode
        self.device = torch.device(mode.device)
        self.module = in_precision(graph.module, DTYPES[mode.precision]).to(self.device)
        self.buffers = [
            torch.zeros([int(axis) for axis in item.shape], dtype=getattr(torch, item.dtype)).to(
                self.device
            )
            for item in graph.spec.inputs
        ]
        self.sources: list[Array | None] = [None] * len(self.buffers)
        self.outputs: tuple[Tensor, ...] = ()
        self.call: Callable[..., Any] = self.module
        self.replay: Callable[[], None] | None = None
        if mode.execution != "eager":
            self.call = torch.compile(self.module, fullgraph=True, dynamic=False)

    def session(self) -> Session:
        label = f"PyTorch {torch.__version__}, {self.mode.device.upper()}, {self.mode}"
        if self.mode.device != "cuda":
            return Session(self.run, label)
        return Session(self.run, label, resident=self.resident, mask=self.mask)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.put(inputs)
        self.step()
        return self.fetch()

    def resident(
        self, inputs: dict[str, Array]
    ) -> tuple[Callable[[], None], Callable[[], dict[str, Array]]]:
        def rerun() -> None:
            self.step()
            torch.cuda.synchronize()

        self.put(inputs)
        torch.cuda.synchronize()
        return rerun, self.fetch

    def put(self, inputs: dict[str, Array]) -> None:
        """Fill the buffers, but for arrays that are there and cannot have changed since."""
        for place, item in enumerate(self.spec.inputs):
            array = inputs[item.name]
            if array is self.sources[place] and not array.flags.writeable:
                continue
            self.buffers[place].copy_(torch.tensor(array))
            self.sources[place] = array

    @torch.no_grad()
    def step(self) -> None:
        try:
            if self.mode.execution == "cuda-graph" and self.replay is None:
                self.replay = self.capture()
            if self.replay is not None:
                self.replay()
            else:
                self.outputs = _as_tuple(self.call(*self.buffers))
        except RuntimeError as exc:
            raise BackendError(
                f"PyTorch failed on the {self.spec.name}: {first_line(exc)}"
            ) from exc

    def capture(self) -> Callable[[], None]:
        replay, outputs = captured(lambda: self.call(*self.buffers))
        self.outputs = _as_tuple(outputs)
        return replay

    def fetch(self) -> dict[str, Array]:
        """Outputs as arrays; waits for the device."""
        return {
            item.name: tensor.to("cpu", torch.float32, copy=True).numpy()
            for item, tensor in zip(self.spec.outputs, self.outputs, strict=True)
        }

    @torch.no_grad()
    def mask(self, low_res: Array, size: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        """See `Session.mask`."""
        logits = torch.tensor(low_res, device=self.device)[None, None]
        height, width = prompts.resized_size(*size, frame.shape)
        full = F.interpolate(logits, frame.shape, mode="bilinear")[..., :height, :width]
        if (height, width) != size:
            full = F.interpolate(full, size, mode="bilinear")
        mask: NDArray[np.bool_] = (full[0, 0] > 0).cpu().numpy()
        return mask


def captured(call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record one run on a stream of its own, as torch.cuda.graph asks for.

    Args:
        call: to record; it reads and writes at the same addresses each time.

    Returns:
        What runs it again, and its outputs, which then hold new values.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(CAPTURE_WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call()
    return graph.replay, outputs


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 what a module returns
    return outputs if isinstance(outputs, tuple) else (outputs,)
