"""Compressed weights: what coremltools compresses, it also decompresses, and both are compared."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilesam_export.mil import load_program
from mobilesam_export.mil.ops import KERNELS
from mobilesam_export.mil.weights import packed_size, unpack
from mobilesam_export.quiet import quiet
from tests.mil_programs import Var, ct, mb, random, run, traced

with quiet(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import coremltools.optimize.coreml as cto


class Net(torch.nn.Module):
    """A convolution and a linear layer, both large enough to be compressed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(8, 32, 3, padding=1)
        self.linear = torch.nn.Linear(32, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(torch.relu(self.conv(x)).mean((2, 3)))
        return y


@functools.cache
def converted(system: str, precision: str) -> Var:
    """The network as a model of coremltools, which compression leaves as it is."""
    torch.manual_seed(0)
    with quiet():
        return ct.convert(
            traced(Net(), random(1, 8, 6, 6)),
            inputs=[ct.TensorType(name="x", shape=(1, 8, 6, 6))],
            outputs=[ct.TensorType(name="y", dtype=np.float32)],
            minimum_deployment_target=getattr(ct.target, system),
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
        )


def config(kind: str, **options: Var) -> Var:
    return cto.OptimizationConfig(getattr(cto, kind)(weight_threshold=0, **options))


def quantize(**options: Var) -> Callable[[Any], Any]:
    return lambda m: cto.linear_quantize_weights(m, config("OpLinearQuantizerConfig", **options))


def palettize(**options: Var) -> Callable[[Any], Any]:
    settings = {"mode": "uniform"} | options
    return lambda m: cto.palettize_weights(m, config("OpPalettizerConfig", **settings))


def prune(**options: Var) -> Callable[[Any], Any]:
    settings = {"target_sparsity": 0.6} | options
    return lambda m: cto.prune_weights(m, config("OpMagnitudePrunerConfig", **settings))


def prune_and(**options: Var) -> Callable[[Any], Any]:
    """Prune, and then quantize or palettize what is left."""
    pruned = prune()
    if "nbits" in options:
        settings = config("OpPalettizerConfig", mode="uniform", **options)
        return lambda m: cto.palettize_weights(pruned(m), settings, joint_compression=True)
    settings = config("OpLinearQuantizerConfig", **options)
    return lambda m: cto.linear_quantize_weights(pruned(m), settings, joint_compression=True)


RECIPES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "int8 per channel": ("iOS16", "constexpr_affine_dequantize", quantize()),
    "uint8 per tensor": (
        "iOS16",
        "constexpr_affine_dequantize",
        quantize(mode="linear", dtype="uint8", granularity="per_tensor"),
    ),
    "int4 per block": (
        "iOS18",
        "constexpr_blockwise_shift_scale",
        quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4),
    ),
    "uint4 with offset": (
        "iOS18",
        "constexpr_blockwise_shift_scale",
        quantize(mode="linear", dtype="uint4", granularity="per_channel"),
    ),
    **{
        f"{bits} bit palette": ("iOS16", "constexpr_lut_to_dense", palettize(nbits=bits))
        for bits in (1, 2, 4, 6, 8)
    },
    "6 bit palette of iOS 18": ("iOS18", "constexpr_lut_to_dense", palettize(nbits=6)),
    "3 bit palette": ("iOS18", "constexpr_lut_to_dense", palettize(nbits=3)),
    "4 bit palettes for groups": (
        "iOS18",
        "constexpr_lut_to_dense",
        palettize(nbits=4, granularity="per_grouped_channel", group_size=8),
    ),
    "palette and a scale per channel": (
        "iOS18",
        "constexpr_lut_to_dense",
        palettize(nbits=4, enable_per_channel_scale=True),
    ),
    "vectors": (
        "iOS18",
        "constexpr_lut_to_dense",
        palettize(mode="kmeans", nbits=2, cluster_dim=2),
    ),
    "sparse": ("iOS16", "constexpr_sparse_to_dense", prune()),
    "sparse of iOS 18": ("iOS18", "constexpr_sparse_to_dense", prune()),
    "sparse palette": ("iOS18", "constexpr_lut_to_sparse", prune_and(nbits=4)),
    "sparse int8": (
        "iOS18",
        "constexpr_sparse_blockwise_shift_scale",
        prune_and(mode="linear_symmetric"),
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_compressed_weights(recipe: str, precision: str, tmp_path: Path) -> None:
    system, kind, compress = RECIPES[recipe]
    x = random(1, 8, 6, 6)
    with quiet():
        small = compress(converted(system, precision))
        small.save(str(tmp_path / "small.mlpackage"))
        cto.decompress_weights(small).save(str(tmp_path / "large.mlpackage"))
    mode = precision.lower()
    evaluators = [load_program(tmp_path / f"{n}.mlpackage", mode) for n in ("small", "large")]
    kinds = [op.kind for op in evaluators[0].program.operations]
    assert kinds.count(kind) == 2
    assert not any(op.kind.startswith("constexpr") for op in evaluators[1].program.operations)
    found, expected = (evaluator.run({"x": x})["y"] for evaluator in evaluators)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    converted(system, precision).save(str(tmp_path / "plain.mlpackage"))
    original = load_program(tmp_path / "plain.mlpackage", mode).run({"x": x})["y"]
    assert np.abs(found - original).max() > 1e-6  # something was compressed


@given(st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_blocks_of_scales_and_offsets(data: st.DataObject) -> None:
    blocks = [data.draw(st.integers(1, 3)) for _ in range(3)]
    counts = [data.draw(st.integers(1, 3)) for _ in range(3)]
    shape = [b * c for b, c in zip(blocks, counts, strict=True)]
    rng = np.random.default_rng(1)
    numbers = rng.integers(-128, 128, shape).astype(np.int8)
    scale = rng.random(counts).astype(np.float32) + 0.1
    offset = rng.integers(-128, 128, counts).astype(np.int8)

    def build(x: Var) -> Var:
        weight = mb.constexpr_blockwise_shift_scale(data=numbers, scale=scale, offset=offset)
        return mb.add(x=x, y=weight)

    spread = [np.kron(v.astype(np.float64), np.ones(blocks)) for v in (scale, offset)]
    x = np.zeros(shape, np.float32)
    (found,) = run(build, {"x": x}, "iOS18")
    np.testing.assert_allclose(found, spread[0] * (numbers - spread[1]), rtol=1e-5, atol=1e-5)


def test_vectors_along_another_axis() -> None:
    """The example of coremltools' documentation of constexpr_lut_to_dense."""
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]])
    lut = np.array([[1, 2, 3], [4, 5, 6]], np.float32).reshape(1, 1, 1, 2, 3)
    one_bit = indices.astype(ct.converters.mil.mil.types.np_uint1_dtype)

    def build(x: Var) -> Var:
        dense = mb.constexpr_lut_to_dense(indices=one_bit, lut=lut, vector_axis=1)
        return mb.add(x=x, y=dense)

    (found,) = run(build, {"x": np.zeros((2, 6, 2), np.float32)}, "iOS18")
    assert found.tolist() == [
        [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]],
        [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]],
    ]


def test_constexpr_cast_widens() -> None:
    half = np.array([0.1, 2.5], np.float16)

    def build(x: Var) -> Var:
        return mb.add(x=x, y=mb.constexpr_cast(source_val=half, output_dtype="fp32"))

    (found,) = run(build, {"x": np.zeros(2, np.float32)})
    assert found.tolist() == half.astype(np.float32).tolist()


@given(st.sampled_from([1, 2, 3, 4, 6]), st.lists(st.integers(0, 63), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True)
def test_packed_numbers(bits: int, numbers: list[int]) -> None:
    numbers = [n % 2**bits for n in numbers]
    stream = sum(n << (i * bits) for i, n in enumerate(numbers))
    dtype = f"uint{bits}"
    data = stream.to_bytes(packed_size(dtype, len(numbers)), "little")
    assert unpack(data, dtype, len(numbers)).tolist() == numbers


def test_packed_signed_numbers() -> None:
    assert unpack(bytes([0xE1, 0x87]), "int4", 4).tolist() == [1, -2, 7, -8]


def test_too_few_numbers_for_a_mask() -> None:
    numbers, mask = torch.ones(1), torch.tensor([1, 1, 0])
    with pytest.raises(ValueError, match="1 elements for a mask of 2"):
        KERNELS["constexpr_sparse_to_dense"]({"nonzero_data": numbers, "mask": mask})
