"""Single operations in float16: Apple's Core AI beside both modes that we foretell it by.

`python -m benchmarks.coreai_ops` runs each kind of operation of our graphs on seeded inputs that
are float16 numbers, in three arithmetics, and compares with float64 on the same inputs and weights:

    Core AI      the operation as its asset has it, on Apple's CPU runtime
    pessimistic  `verification.half`: taken apart, each step and sum rounded to float16
    kind         as the MIL interpreter computes an operation: wide inside, its result rounded

It writes `benchmarks/results/coreai_ops.json`. Needs `pip install ".[coreai]"`.
"""

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import coreai
from benchmarks.tables import RESULTS
from mobilesam_export.contract import Array, Contract, GraphSpec, TensorSpec
from mobilesam_export.graphs import Graph
from mobilesam_export.graphs.decoder import averages
from mobilesam_export.graphs.norms import channel_norm
from mobilesam_export.metrics import psnr_db
from mobilesam_export.session import Session
from mobilesam_export.verification.half import PessimisticFloat16
from mobilesam_export.verification.pessimistic import open_graph

RESULT = RESULTS / "coreai_ops.json"
TOKENS, MAP = (1, 64, 256), (1, 256, 8, 8)


class Call(nn.Module):
    """A function without weights as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Operations(nn.Module):
    """Many operations side by side, each on an input of its own, in one graph."""

    marker: Tensor

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("marker", torch.zeros(1))  # of the type that is computed in

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            part(x.to(self.marker.dtype)).to(torch.float32)
            for part, x in zip(self.parts, inputs, strict=True)
        )


def norm() -> nn.Module:
    """Over 256 channels, as all of MobileSAM's."""
    return nn.LayerNorm(256, eps=1e-6)


def average(terms: int) -> nn.Module:
    """Of 16 values at 4,096 positions for each of eight tokens."""
    return Call(
        lambda x: averages(x.softmax(-1), x[:, :, :4].repeat(1, 1, 4, 1).permute(0, 1, 3, 2), terms)
    )


def spelled_norm() -> nn.Module:
    """The same over the channels of a map, in the steps that the Apple layout has."""
    return Call(lambda x: channel_norm(x, 1e-6))


# Name -> the operation, the shape of its input, and the standard deviation of its values.
CASES: dict[str, tuple[nn.Module, tuple[int, ...], float]] = {
    "LayerNorm of 256, one operation, values about 1": (norm(), TOKENS, 1.0),
    "the same, about 24: sums of squares over 65,504": (norm(), TOKENS, 24.0),
    "the same, about 400: squares over 65,504": (norm(), TOKENS, 400.0),
    "LayerNorm of 256, in steps, values about 1": (spelled_norm(), MAP, 1.0),
    "in steps, about 0.004": (spelled_norm(), MAP, 2.0**-8),
    "in steps, about 24: sums of squares over 65,504": (spelled_norm(), MAP, 24.0),
    "in steps, about 400: squares over 65,504": (spelled_norm(), MAP, 400.0),
    "softmax of 64": (nn.Softmax(-1), (1, 64, 64), 3.0),
    "softmax of 4,096": (nn.Softmax(-1), (1, 4, 4096), 3.0),
    "GELU": (nn.GELU(), TOKENS, 2.0),
    "sigmoid": (nn.Sigmoid(), TOKENS, 2.0),
    "exp": (Call(torch.exp), TOKENS, 1.0),
    "mean of 256": (Call(lambda x: x.mean(-1)), TOKENS, 1.0),
    "sum of 256 squares": (Call(lambda x: (x * x).sum(-1)), TOKENS, 4.0),
    "linear layer, 256 terms": (nn.Linear(256, 64), TOKENS, 1.0),
    "linear layer, 4,096 terms": (nn.Linear(4096, 16), (1, 16, 4096), 1.0),
    "product of two activations, 256 terms": (Call(lambda x: x @ x.permute(0, 2, 1)), TOKENS, 1.0),
    "average over 4,096 positions": (average(0), (1, 4, 8, 4096), 3.0),
    "the same, in products of 64": (average(64), (1, 4, 8, 4096), 3.0),
    "convolution 1 x 1, 256 terms": (nn.Conv2d(256, 64, 1), MAP, 1.0),
    "convolution 3 x 3, 2,304 terms": (nn.Conv2d(256, 16, 3, padding=1), (1, 256, 16, 16), 1.0),
    "depthwise convolution 3 x 3": (
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        (1, 64, 16, 16),
        1.0,
    ),
    "transposed convolution 2 x 2, 64 terms": (
        nn.ConvTranspose2d(64, 16, 2, stride=2),
        (1, 64, 16, 16),
        1.0,
    ),
    "addition": (Call(lambda x: x + x.flip(-1)), TOKENS, 1.0),
    "ReLU": (Call(F.relu), TOKENS, 1.0),
}


def graph() -> Graph:
    """All cases, with weights that are float16 numbers."""
    torch.manual_seed(0)
    module = Operations([part for part, _, _ in CASES.values()]).eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            part.reset_parameters()
    with torch.no_grad():
        for weight in module.parameters():
            spread = weight.abs().max().clamp_min(0.1)
            weight.copy_((weight + 0.1 * spread * torch.randn(weight.shape)).half().float())
    outputs = module(*(torch.zeros(shape) for _, shape, _ in CASES.values()))
    inputs = [shape for _, shape, _ in CASES.values()]
    return Graph(
        GraphSpec(
            "operations",
            tuple(TensorSpec(f"x{i}", shape, "float32", "") for i, shape in enumerate(inputs)),
            tuple(
                TensorSpec(f"y{i}", tuple(y.shape), "float32", "") for i, y in enumerate(outputs)
            ),
        ),
        module,
    )


def given() -> dict[str, Array]:
    """Inputs by name, float16 numbers in float32."""
    generator = np.random.default_rng(1)
    return {
        f"x{index}": (scale * generator.standard_normal(shape))
        .astype(np.float16)
        .astype(np.float32)
        for index, (_, shape, scale) in enumerate(CASES.values())
    }


def exact(whole: Graph, inputs: dict[str, Array]) -> list[Array]:
    """What float64 makes of the same inputs and weights, in the order of the cases."""
    parts = copy.deepcopy(whole.module).double().get_submodule("parts")
    assert isinstance(parts, nn.ModuleList)  # noqa: S101 for mypy
    with torch.no_grad():
        return [
            part(torch.from_numpy(x).double()).numpy()
            for part, x in zip(parts, inputs.values(), strict=True)
        ]


def kind(whole: Graph) -> Session:
    """Each operation in float32, its result rounded to float16."""

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            outputs = whole.module(*map(torch.from_numpy, inputs.values()))
        return {f"y{i}": y.half().float().numpy() for i, y in enumerate(outputs)}

    return Session(run, "PyTorch, results rounded to float16")


def rows() -> list[dict[str, Any]]:
    """PSNR of each operation in each arithmetic; None where not every value is finite."""
    whole, inputs, form = graph(), given(), coreai.TARGET.graph
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            "coreai": coreai.session(whole, Contract(256, 6, form), Path(folder)),
            "pessimistic": open_graph(whole, PessimisticFloat16(), ()),
            "kind": kind(whole),
        }
        found = {name: session.run(inputs) for name, session in sessions.items()}
    expected = exact(whole, inputs)
    return [
        {"operation": name, **{key: _psnr(found[key][f"y{i}"], expected[i]) for key in sessions}}
        for i, name in enumerate(CASES)
    ]


def _psnr(found: Array, expected: Array) -> float | None:
    if not np.isfinite(found).all():
        return None
    return min(round(psnr_db(found, expected), 2), 999.0)


def main() -> None:
    """Measure and write down."""
    measured = rows()
    for row in measured:
        print(json.dumps(row), flush=True)
    RESULT.write_text(json.dumps({"rows": measured}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
