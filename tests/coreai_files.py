"""Small graphs as Core AI assets, for tests: real networks take its converter half a minute."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mobilesam_export.backends.conversion import Conversion
from mobilesam_export.backends.coreai import backend
from mobilesam_export.contract import Array, Contract, GraphSpec, TensorSpec
from mobilesam_export.graphs import Graph
from mobilesam_export.target import Recipe, load_target

TARGET = load_target("coreai")
CONTRACT = Contract(256, 6, TARGET.graph)
METADATA = {
    "description": "A small graph.",
    "author": "tests",
    "license": "Apache-2.0",
    "version": "1",
    "recipe": "any",
}
NEEDS_COREAI = pytest.mark.skipif(
    find_spec("coreai_torch") is None,
    reason='no Core AI: pip install "mobilesam-export[coreai]" (Linux on x86_64 with glibc 2.34)',
)
WIDTH, TOKENS = 64, 32
# A recipe that is none of the target's: four bits, one palette for 16 channels.
GROUPED = replace(
    TARGET.recipes["w6-palettized"],
    weights="palette4",
    granularity="per_grouped_channel",
    group_size=16,
)


class Small(nn.Module):
    """A convolution, a LayerNorm, a product with a buffer, and two outputs."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.narrow = nn.Conv2d(3, WIDTH, 1)
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("table", torch.randn(1, TOKENS, WIDTH, generator=generator))
        with torch.no_grad():
            for parameter in (*self.narrow.parameters(), *self.linear.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # (1, 8, 8, 3) uint8
        x = image.to(torch.float32).to(self.linear.weight.dtype).permute(0, 3, 1, 2) / 255
        tokens = self.norm(self.narrow(x).flatten(2).permute(0, 2, 1))
        second = self.linear(tokens) @ self.table.permute(0, 2, 1)
        return tokens.mean(-1).float(), second.float()


def small_graph() -> Graph:
    """Two outputs, whose names are not in alphabetical order."""
    spec = GraphSpec(
        "encoder",
        (TensorSpec("image", (1, 8, 8, 3), "uint8", ""),),
        (
            TensorSpec("zeroth", (1, 64), "float32", ""),
            TensorSpec("first", (1, 64, TOKENS), "float32", ""),
        ),
    )
    return Graph(spec, Small().eval().requires_grad_(False))


def recipe_of(name: str) -> Recipe:
    """A recipe of the target, for weights from 1,000 elements on and almost no exceptions."""
    recipe = replace(TARGET.recipes.get(name, GROUPED), keep_float32=())
    if not recipe.compressed:
        return recipe
    ungrouped = {"table": recipe.weights} if recipe.group_size else {}
    return replace(recipe, exceptions={"encoder": ungrouped}, weight_threshold=1000)


def convert(recipe: Recipe, path: Path) -> None:
    """The small graph as an asset."""
    settings = backend.parse_recipe(recipe, TARGET.graph, TARGET.convert)
    backend.convert(small_graph(), Conversion(settings, recipe, CONTRACT, METADATA), path)


def image() -> dict[str, Array]:
    """An input of the small graph."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (1, 8, 8, 3), generator=generator)
    return {"image": pixels.to(torch.uint8).numpy()}


def expected() -> dict[str, Array]:
    """What PyTorch makes of it."""
    graph = small_graph()
    with torch.no_grad():
        outputs = graph.module(*graph.module_inputs(image()))
    named = zip(graph.spec.outputs, outputs, strict=True)
    return {item.name: output.numpy() for item, output in named}
