"""A small graph as an ExecuTorch program, for tests: a real decoder takes its exporter a minute."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.executorch import backend
from mobilesam_export.contract import Array, Contract, GraphSpec, TensorSpec
from mobilesam_export.graphs import Graph
from mobilesam_export.target import Recipe, load_target

TARGET = load_target("executorch")
CONTRACT = Contract(256, 6, TARGET.graph)
METADATA = {"description": "A small graph.", "recipe": "any"}
NEEDS_EXECUTORCH = pytest.mark.skipif(
    find_spec("executorch") is None,
    reason='no ExecuTorch: pip install "mobilesam-export[executorch]"',
)
WIDTH, TOKENS, HEADS = 64, 64, 2


class Attention(nn.Module):
    """A LayerNorm and windows of one size with a baked bias, (1, TOKENS, WIDTH) -> same."""

    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.register_buffer("bias", torch.zeros(1, HEADS, TOKENS, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, TOKENS, HEADS, WIDTH // HEADS)
        y: Tensor = self.qkv(self.norm(x))
        parts = (y[:, :, start : start + WIDTH] for start in range(0, 3 * WIDTH, WIDTH))
        q, k, v = (part.reshape(shape).permute(0, 2, 1, 3) for part in parts)
        y = (q @ k.permute(0, 1, 3, 2) + self.bias).softmax(-1) @ v
        return x + y.permute(0, 2, 1, 3).reshape(1, TOKENS, WIDTH)


class Small(nn.Module):
    """What XNNPACK or its partitioner took badly, and a convolution between channel-last layers."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, WIDTH, 1)
        self.attention = Attention()
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.dense = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.register_buffer("table", torch.zeros(1, WIDTH))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in self.state_dict().values():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 8)

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.narrow((image.to(torch.float32) / 255).permute(0, 3, 1, 2))  # (1, WIDTH, 8, 8)
        x = self.attention(x.permute(0, 2, 3, 1).reshape(1, TOKENS, WIDTH))
        y = x.reshape(1, 8, 8, WIDTH) + (1 - labels[:, :, None, None]) * self.table
        y = self.depthwise(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.dense(F.gelu(y).permute(0, 3, 1, 2))
        turns = x.sum(-1, keepdim=True)[:, :, :1]
        hidden = (turns - turns.round()).clamp(0, 1)
        return y, hidden


def small_graph() -> Graph:
    """Two inputs and two outputs."""
    spec = GraphSpec(
        "encoder",
        (
            TensorSpec("image", (1, 8, 8, 3), "uint8", ""),
            TensorSpec("labels", (1, 1), "float32", ""),
        ),
        (
            TensorSpec("zeroth", (1, WIDTH, 8, 8), "float32", ""),
            TensorSpec("first", (1, TOKENS, 1), "float32", ""),
        ),
    )
    return Graph(spec, Small().eval().requires_grad_(False))


def recipe_of(name: str) -> Recipe:
    """A recipe of the target without exceptions."""
    return replace(TARGET.recipes[name], exceptions={})


def convert(name: str, path: Path) -> None:
    """The small graph as a program."""
    recipe = recipe_of(name)
    settings = backend.parse_recipe(recipe, TARGET.graph, TARGET.options(recipe))
    backend.convert(small_graph(), Conversion(settings, recipe, CONTRACT, METADATA), path)


def inputs() -> dict[str, Array]:
    """Of the small graph."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (1, 8, 8, 3), generator=generator)
    return {"image": pixels.to(torch.uint8).numpy(), "labels": torch.tensor([[0.5]]).numpy()}


def expected() -> dict[str, Array]:
    """What PyTorch makes of them."""
    graph = small_graph()
    with torch.no_grad():
        outputs = graph.module(*graph.module_inputs(inputs()))
    named = zip(graph.spec.outputs, outputs, strict=True)
    return {item.name: output.numpy() for item, output in named}
