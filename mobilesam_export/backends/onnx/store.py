"""Weights in fewer bits, computed with in float32: size only.

Whole numbers are restored by Cast and Mul, not by DequantizeLinear: ONNX Runtime folds the former
when it loads a file, so that it runs like a float32 one. The latter it keeps for the sake of int8
kernels, at each run, and no operator that takes such a weight gets its fast layout: an encoder with
int8 weights took 1.4 times the float32 one's time. Four-bit matrices are restored block by block as
they are multiplied (MatMulNBits).
"""

import numpy as np

from mobilesam_export.backends.onnx.graph import Array, GraphEditor, Node
from mobilesam_export.backends.onnx.integer import symmetric

FLOAT32, FLOAT16, INT8, INT4 = "float32", "float16", "int8", "int4"
LEVELS = (-8, 7)  # of four bits
KINDS = (FLOAT32, FLOAT16, INT8)
# Which axis has a scale for each index, by the operator that takes a weight.
AXES = {"Conv": 0, "ConvTranspose": 1, "Attention": 1}


def weights(graph: GraphEditor, threshold: int) -> dict[str, Node]:
    """Float32 constants of more than `threshold` numbers, and the first node that takes each."""
    return {
        name: graph.users(name)[0]
        for name, value in graph.constants.items()
        if value.dtype == np.float32 and value.size > threshold and graph.users(name)
    }


def scale_axis(weight: Array, user: Node) -> int:
    """The axis along which a weight has one scale for each index: its outputs, or its heads."""
    if user.op_type in AXES:
        return AXES[user.op_type]
    if user.op_type == "Add" and weight.ndim == 4:
        return 1  # an attention bias (1, heads, tokens, tokens)
    return weight.ndim - 1


def store(graph: GraphEditor, name: str, kind: str, user: Node) -> None:
    """Keep a weight as `kind`, and give those who take it float32."""
    if kind == FLOAT32:
        return
    value = graph.constants[name]
    restored = f"{name}/float32"
    if kind == FLOAT16:
        graph.constant(f"{name}/float16", value.astype(np.float16))
        nodes = [graph.make("Cast", [f"{name}/float16"], restored, to=1)]
    else:
        axis = scale_axis(value, user)
        whole, scales = symmetric(value, axis)
        along = [-1 if index == axis else 1 for index in range(value.ndim)]
        scale = graph.constant(f"{name}/scale", scales.reshape(along))
        floats = f"{name}/whole"
        nodes = [
            graph.make("Cast", [graph.constant(f"{name}/int8", whole)], floats, to=1),
            graph.make("Mul", [floats, scale], restored),
        ]
    graph.insert_before(user, nodes)
    graph.redirect(name, restored)


def store_four_bits(
    graph: GraphEditor, layer: Node, packed: tuple[Array, Array], accuracy_level: int
) -> None:
    """A matrix product with the matrix in four bits, one scale for a block of inputs of an output.

    Args:
        graph: changed in place.
        layer: from `integer.linear_layers`.
        packed: from `pack_four_bits`.
        accuracy_level: of MatMulNBits: 0 to compute in float32, 4 in int8.
    """
    weight, (numbers, scales) = layer.input[1], packed
    rows, columns = graph.constants[weight].shape
    names = [
        graph.constant(f"{weight}/int4", numbers),
        graph.constant(f"{weight}/scale", scales.ravel()),
    ]
    node = graph.make(
        "MatMulNBits",
        [layer.input[0], *names],
        layer.output[0],
        domain="com.microsoft",
        K=rows,
        N=columns,
        bits=4,
        block_size=2 * numbers.shape[2],
        accuracy_level=accuracy_level,
    )
    graph.replace(layer, [node])


def pack_four_bits(matrix: Array, block: int, scales: Array | None = None) -> tuple[Array, Array]:
    """A matrix in four bits.

    Args:
        matrix: (K, N) float32, K a multiple of `block`.
        block: 16, 32, 64, 128 or 256.
        scales: (N, K / block) float32; None for `block_scales`.

    Returns:
        (N, K / block, block / 2) uint8, two numbers to a byte, the first in the low half, 8
        standing for zero: what MatMulNBits expects where it is given no zero points. And the
        scales.
    """
    blocks = matrix.T.reshape(matrix.shape[1], -1, block)
    used = block_scales(blocks) if scales is None else scales
    bytes_ = (nearest_levels(blocks, used) - LEVELS[0]).astype(np.uint8)
    return bytes_[..., 0::2] | (bytes_[..., 1::2] << 4), used


def nearest_levels(blocks: Array, scales: Array) -> Array:
    """(..., block) float32 and (...) scales -> whole numbers of four bits, int8."""
    return np.clip(np.round(blocks / scales[..., None]), *LEVELS).astype(np.int8)


def block_scales(blocks: Array) -> Array:
    """(..., block) float32 -> (...): the number of largest magnitude is met exactly, as -8."""
    index = np.abs(blocks).argmax(axis=-1, keepdims=True)
    scale = np.take_along_axis(blocks, index, axis=-1)[..., 0] / LEVELS[0]
    return np.where(scale == 0, 1e-12, scale).astype(np.float32)
