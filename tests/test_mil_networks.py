"""Whole programs: small networks converted by coremltools, and this project's own packages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilesam_export.backends import reference
from mobilesam_export.contract import Contract
from mobilesam_export.metrics import mask_iou
from mobilesam_export.mil import load_program
from mobilesam_export.model import Sam
from mobilesam_export.predictor import Predictor
from mobilesam_export.scenes import masked_scene
from mobilesam_export.session import Session
from mobilesam_export.target import load_target
from mobilesam_export.verification.cases import object_prompts
from tests.mil_programs import convert, ct, random


class ConvNet(nn.Module):
    """Inverted residuals with squeeze-and-excitation, pooled to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.widen = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24))
        self.depth = nn.Conv2d(24, 24, 5, padding=4, dilation=2, groups=24)
        self.squeeze, self.excite = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.narrow = nn.Conv2d(24, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.hardswish(self.stem(x)), 3, 2, 1, ceil_mode=True)
        y = F.relu6(self.depth(F.leaky_relu(self.widen(x), 0.1)))
        scale = F.adaptive_avg_pool2d(y, 1)
        y = y * F.hardsigmoid(self.excite(F.silu(self.squeeze(scale))))
        x = x + self.narrow(y)
        return torch.log_softmax(self.head(x.mean((2, 3))), -1)


class TransformerBlock(nn.Module):
    """Patches, a learned position, attention with a bias, an MLP, a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 17, 16))
        self.bias = nn.Parameter(torch.randn(1, 4, 17, 17))
        self.before, self.between, self.after = (nn.LayerNorm(16) for _ in range(3))
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token, x], 1) + self.position
        q, k, v = self.qkv(self.before(x)).reshape(1, 17, 3, 4, 4).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * 0.5 + self.bias, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(1, 17, 16))
        every: Tensor = self.after(x + self.mlp(self.between(x)))
        return every[:, 0]


class FusedAttention(nn.Module):
    """Attention as iOS 18's own operation."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, y, y.flip(2))


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, skips, odd padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.bottom = nn.Conv2d(16, 16, 3, padding="same")
        self.up = nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1)
        self.shuffle = nn.Sequential(nn.Conv2d(16, 32, 1), nn.PixelShuffle(2))
        self.norm, self.act = nn.InstanceNorm2d(16, affine=True), nn.PReLU(16)
        self.last = nn.Conv2d(24, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.first(F.pad(x, (1, 2, 0, 3), mode="reflect")))
        second = F.elu(self.second(F.avg_pool2d(first, 2)))
        bottom = self.act(self.norm(self.bottom(F.max_pool2d(second, 2))))
        middle = F.interpolate(bottom, scale_factor=2.0, mode="bilinear", align_corners=False)
        middle = middle + F.interpolate(bottom, scale_factor=2, mode="nearest")
        up = self.up(middle) + self.shuffle(second)
        joined = torch.cat(
            [first, up, second.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :8]], 1
        )
        return torch.sigmoid(self.last(joined))[..., :-3, 1:-2]


def examples(kind: type[nn.Module]) -> list[np.ndarray[Any, Any]]:
    if kind is FusedAttention:
        return [random(1, 2, 5, 8), random(1, 2, 7, 8, seed=1)]
    sizes = {ConvNet: 29, TransformerBlock: 16, UNet: 29}
    return [random(1, 3, sizes[kind], sizes[kind])]


NETWORKS = [ConvNet, TransformerBlock, FusedAttention, UNet]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("system", ["iOS16", "iOS17", "iOS18"])
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python:torch.jit.TracerWarning")
def test_network(kind: type[nn.Module], system: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = kind().eval(), examples(kind)
    if kind is UNet:
        inputs[0] = random(1, 3, 29, 29)
    target = getattr(ct.target, system)
    path = convert(tmp_path / "m.mlpackage", module, *inputs, minimum_deployment_target=target)
    evaluator = load_program(path)
    (found,) = evaluator.run({f"x{i}": x for i, x in enumerate(inputs)}).values()
    with torch.no_grad():
        expected = module(*[torch.from_numpy(x) for x in inputs]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    kinds = {op.kind for op in evaluator.program.operations}
    fused = (kind, system) == (FusedAttention, "iOS18")
    assert ("scaled_dot_product_attention" in kinds) == fused


@pytest.mark.parametrize("kind", NETWORKS)
def test_network_in_float16(kind: type[nn.Module], tmp_path: Path) -> None:
    """Rounding shows, and is as small as float16 is fine."""
    torch.manual_seed(0)
    module, inputs = kind().eval(), examples(kind)
    precision = {"compute_precision": ct.precision.FLOAT16}
    path = convert(tmp_path / "m.mlpackage", module, *inputs, **precision)
    named = {f"x{i}": x for i, x in enumerate(inputs)}
    (exact,), (rounded,) = (
        load_program(path, mode).run(named).values() for mode in ("float32", "float16")
    )
    error = np.abs(exact - rounded.astype(np.float32)).max()
    assert 0 < error < 2e-2 * np.abs(exact).max()


def test_flexible_sizes(tmp_path: Path) -> None:
    """Declared sizes that only a run knows are taken from the input."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2)).eval()
    side = ct.RangeDim(8, 32)
    inputs = [ct.TensorType(name="x", shape=(1, 3, side, side))]
    evaluator = load_program(
        convert(tmp_path / "m.mlpackage", module, random(1, 3, 9, 9), inputs=inputs)
    )
    for size in (8, 21):
        x = random(1, 3, size, size)
        (found,) = evaluator.run({"x": x}).values()
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# --- this project's own packages


@pytest.mark.parametrize("mode", ["float32", "float16"])
def test_own_package(mode: str, coreml_bundle: Path, sam: Sam) -> None:
    """The float16 package in either mode; test_coreml asserts the verification of each recipe."""
    contract = Contract(sam.image_size, 6, load_target("coreml").graph)
    encoder, decoder = (
        Session(load_program(coreml_bundle / f"{name}.mlpackage", mode).run, mode)
        for name in ("encoder", "decoder")
    )
    evaluated, expected = Predictor(encoder, decoder, contract), reference.load(sam, contract)
    shown = masked_scene(1, 150, 200)
    ours, theirs = evaluated.embed(shown.image), expected.embed(shown.image)
    assert np.abs(ours.embeddings - theirs.embeddings).max() < 2e-2
    for prompt in object_prompts(shown.masks[0], contract.points).values():
        found, answer = evaluated.predict(prompt, ours), expected.predict(prompt, theirs)
        errors = found.outputs["low_res_masks"] - answer.outputs["low_res_masks"]
        assert np.abs(errors).max() < 5e-2
        assert mask_iou(found.mask, answer.mask) >= 0.99
