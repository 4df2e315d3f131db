"""An encoder's linear layers fitted one after the other to give what another encoder has there.

What a layer should give is the other encoder's; what it gives that from is its own encoder's, as
the layers before have left it. So each layer makes good what those before it lost, also to the
residual that it is added to. By least squares, on a few images.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.model.tiny_vit import (
    Attention,
    Conv2dBN,
    MBConv,
    Mlp,
    PatchEmbed,
    PatchMerging,
    Stage,
    TinyViT,
    TinyViTBlock,
)

ROWS = 4096  # of one image, evenly spaced, that a layer is fitted on
# Of the mean variance of a layer's inputs: what holds it to the weights that it has. A student
# half as wide as demo, on 16 scenes at 256 and 8 others: 0.001 28.1 dB, 0.01 28.6, 0.03 28.7, 0.1
# 28.5. Demo in four bits: 0.03 60.0 dB, 0.1 59.9, 0.3 59.5.
RIDGE = 0.03
FAINT = 1e-3  # of the largest scale of a BatchNorm: the weights before one are left as they are
# The layers of each kind of unit that are fitted, in order, and for the last of a residual branch
# the part of the unit that the residual passes by: "" for the whole.
FITTED: dict[type[nn.Module], dict[str, str | None]] = {
    PatchEmbed: {"seq.2": None},
    MBConv: {"conv1": None, "conv3": ""},
    TinyViTBlock: {"attn.qkv": None, "attn.proj": "attn", "mlp.fc1": None, "mlp.fc2": "mlp"},
    PatchMerging: {"conv1": None, "conv3": None},
    nn.Sequential: {"0": None},  # the neck
}
Record = dict[str, tuple[Tensor, Tensor]]  # by module, rows of what it takes and of what it gives


@dataclass
class Moments:
    """Moments of rows x (n,) and of what should come of them, y (m,), summed up in float64.

    Attributes:
        count: of rows.
        x: (n,), sum of x.
        y: (m,), sum of y.
        xx: (n, n), sum of x x^T.
        xy: (n, m), sum of x y^T.
    """

    count: int = 0
    x: Tensor = field(default_factory=lambda: torch.zeros(()))
    y: Tensor = field(default_factory=lambda: torch.zeros(()))
    xx: Tensor = field(default_factory=lambda: torch.zeros(()))
    xy: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count rows (N, n) and (N, m), float32."""
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0).double(), self.y + y.sum(0).double()
        self.xx, self.xy = self.xx + (x.T @ x).double(), self.xy + (x.T @ y).double()

    @property
    def covariance(self) -> Tensor:
        """(n, n), of x."""
        return self.xx / self.count - torch.outer(self.x, self.x) / self.count**2


def named_units(encoder: TinyViT) -> Iterator[tuple[str, nn.Module]]:
    """The parts of an encoder that follow each other: the stem, blocks, mergings, the neck."""
    yield "patch_embed", encoder.patch_embed
    for index, stage in enumerate(item for item in encoder.layers if isinstance(item, Stage)):
        for number, block in enumerate(stage.blocks):
            yield f"layers.{index}.blocks.{number}", block
        if stage.downsample is not None:
            yield f"layers.{index}.downsample", stage.downsample
    yield "neck", encoder.neck


def as_rows(values: Tensor, layer: nn.Module) -> Tensor:
    """(N, C) of what a layer takes or gives: its channels are the last axis, or of maps axis 1."""
    last = isinstance(layer, nn.Linear | Attention | Mlp)
    return spaced((values if last else values.movedim(1, -1)).flatten(0, -2))


def spaced(rows: Tensor) -> Tensor:
    """All, or about ROWS of them in memory of their own, so that the others can be freed."""
    every = len(rows) // ROWS | 1
    return rows if every == 1 else rows[::every].contiguous()


@torch.no_grad()
def fit_layers(
    exact: TinyViT,
    encoder: TinyViT,
    images: Sequence[Tensor],
    fit: Callable[[str, Moments], None],
    outputs: Callable[[str], Tensor | slice] = lambda _: slice(None),
) -> None:
    """Fit every linear layer, from the first to the last.

    Args:
        exact: the encoder that is to be matched, in eval mode.
        encoder: the one whose layers are fitted, with the same layers.
        images: (B, 3, S, S) float32, normalised.
        fit: called with a layer's name and the moments of what it takes and should give; changes
            the layer.
        outputs: by a layer's name, which of the exact one's outputs it has.
    """
    before, now = list(images), list(images)
    for (name, unit), (_, fitted) in zip(named_units(exact), named_units(encoder), strict=True):
        layers = FITTED[type(fitted)]
        expected = [_recorded(unit, x, *layers, *layers.values()) for x in before]
        for layer, branch in layers.items():
            moments, kept = Moments(), outputs(f"{name}.{layer}")
            for (_, wanted), x in zip(expected, now, strict=True):
                _, found = _recorded(fitted, x, layer, branch)
                taken, target = found[layer][0], wanted[layer][1][:, kept]
                if branch is not None:
                    residual = wanted[branch][0]
                    target = target + residual[:, kept] - found[branch][0]
                    inside = residual.any(1)  # not the padding of windows, which is cut away
                    taken, target = taken[inside], target[inside]
                moments.add(taken, target)
            fit(f"{name}.{layer}", moments)
        before, now = [output for output, _ in expected], [fitted(x) for x in now]


def solve(layer: nn.Module, moments: Moments) -> None:
    """Give a layer the weights and the bias that come nearest to what it should give.

    Args:
        layer: linear, or a convolution with or without BatchNorm; the last has no bias.
        moments: of what its weights are multiplied with, and of its outputs.
    """
    weight, biased = matrix(layer), not isinstance(layer, nn.Conv2d)
    own, shared = moments.xx / moments.count, moments.xy / moments.count
    if biased:
        mean = moments.x / moments.count
        own = own - torch.outer(mean, mean)
        shared = shared - torch.outer(mean, moments.y / moments.count)
    damping = RIDGE * own.diagonal().mean() * torch.eye(len(own), device=own.device)
    weight = weight + torch.linalg.solve(own + damping, shared - own @ weight.T).T
    if isinstance(layer, Conv2dBN):
        scale = _scale(layer.bn)
        faint = scale.abs() <= FAINT * scale.abs().max()
        raw = weight / torch.where(faint, 1, scale)[:, None]
        raw[faint] = layer.c.weight[faint].flatten(1).double()
        layer.c.weight.copy_(raw.reshape(layer.c.weight.shape))
    elif isinstance(layer, nn.Conv2d | nn.Linear):
        layer.weight.copy_(weight.reshape(layer.weight.shape))
    centre(layer, moments)


def centre(layer: nn.Module, moments: Moments) -> None:
    """Give a layer the bias with which its mean output is what it should be.

    Args:
        layer: linear, or a convolution with BatchNorm; one without is left as it is.
        moments: of what its weights are multiplied with, and of its outputs.
    """
    bias = (moments.y - matrix(layer) @ moments.x) / moments.count
    if isinstance(layer, Conv2dBN):
        assert layer.bn.running_mean is not None  # noqa: S101 kept in eval mode
        layer.bn.bias.copy_(bias + layer.bn.running_mean * _scale(layer.bn))
    elif isinstance(layer, nn.Linear):
        layer.bias.copy_(bias)


def matrix(layer: nn.Module) -> Tensor:
    """(outputs, inputs) float64 of a layer, with BatchNorm's scale."""
    if isinstance(layer, Conv2dBN):
        return layer.c.weight.flatten(1).double() * _scale(layer.bn)[:, None]
    assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 what FITTED names
    return layer.weight.flatten(1).double()


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None  # noqa: S101 kept in eval mode
    return norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)


def _recorded(unit: nn.Module, x: Tensor, *names: str | None) -> tuple[Tensor, Record]:
    """What a unit gives, and rows of what some of its modules take and give meanwhile."""
    found: Record = {}
    with ExitStack() as hooks:
        for name in {name for name in names if name is not None}:

            def note(
                module: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name
            ) -> None:
                found[name] = (_patches(inputs[0], module), as_rows(output, module))

            hooks.enter_context(unit.get_submodule(name).register_forward_hook(note))
        return unit(x), found


def _patches(values: Tensor, layer: nn.Module) -> Tensor:
    """(N, inputs) of what a layer's weights are multiplied with: of a kernel, what it covers."""
    convolution = layer.c if isinstance(layer, Conv2dBN) else layer
    if not isinstance(convolution, nn.Conv2d) or convolution.kernel_size == (1, 1):
        return as_rows(values, layer)
    kernel, padding, stride = convolution.kernel_size, convolution.padding, convolution.stride
    columns = F.unfold(values, kernel, padding=padding, stride=stride)  # type: ignore[arg-type]
    return spaced(columns.movedim(1, -1).flatten(0, -2))
