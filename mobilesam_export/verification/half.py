"""Pessimistic float16: a graph as a chip computes it that keeps nothing wider than float16.

The model of arithmetic:

* Every value is a float16 number: inputs, weights, and the result of every operation, rounded to
  nearest.
* LayerNorm, mean, softmax, GELU and attention are taken apart into elementwise steps and sums, and
  each step is rounded. Apple's Core AI runtime computes LayerNorm so: on weights that scale a
  LayerNorm's input, this model foretells its error within 2 dB, where a LayerNorm that is wide
  inside hides it.
* A sum over an axis is itself a float16 number, as in LiteRT's GPU delegate (LiteRT#9249), so a sum
  of squares overflows where the squares do not.
* Products and convolutions are rounded at their results only: most runtimes keep at least their
  partial sums in float32, or add them in blocks. Their partial sums are bounded (sum of
  |weight * input|) for the headroom.

What it does not model: the order of additions inside a sum, fused multiply-add, flushing of
subnormal numbers to zero, and the partial sums of matrix products, which are float16 in Core AI's
CPU runtime (`benchmarks/coreai_ops.py`: 20 dB below this model at 256 terms).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

FLOAT16_MAX = 65504.0

aten = torch.ops.aten
# What adds products up: packet -> positions of its two factors and of what is added to them.
PRODUCTS: dict[Any, tuple[int, int, int | None]] = {
    aten.mm: (0, 1, None),
    aten.bmm: (0, 1, None),
    aten.addmm: (1, 2, 0),
    aten.baddbmm: (1, 2, 0),
    aten.convolution: (0, 1, 2),
    aten.linear: (0, 1, 2),
    aten.matmul: (0, 1, None),
}
# What hides several steps, and is neither taken apart here nor used by any export form.
HIDDEN_STEPS = {
    aten.var,
    aten.var_mean,
    aten.std,
    aten.logsumexp,
    aten._log_softmax,
    aten.native_group_norm,
    aten.linalg_vector_norm,
}


@dataclass(frozen=True)
class Extreme:
    """One tensor's largest absolute value.

    Attributes:
        tensor: where it is computed, and as what.
        value: the largest absolute value, or the bound of the partial sums that make it.
    """

    tensor: str
    value: float


class PessimisticFloat16(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, torch computes as described above, in float32 tensors.

    Attributes:
        where: what is being computed, for names; set it as the computation goes on.
        wide: whether what is computed now stays float32, as a recipe's islands do.
        largest: of all values and partial sums.
        faintest: the tensor whose largest absolute value is the smallest, zeros not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.where = ""
        self.wide = False
        self.largest = Extreme("", 0.0)
        self.faintest = Extreme("", math.inf)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 an OpOverload
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 whatever the operation returns
        packet, kwargs = func.overloadpacket, kwargs or {}
        if self.wide:
            return func(*args, **kwargs)
        if packet in HIDDEN_STEPS:
            raise NotImplementedError(f"{packet} hides steps that are rounded in float16")
        if packet in STEPS:
            return STEPS[packet](self, *args, **kwargs)
        if (
            packet not in PRODUCTS
        ):  # in inference mode torch hands over what is made of others whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if packet in PRODUCTS:
            self._bound(func, args, PRODUCTS[packet])
        name = str(packet).removeprefix("aten.")
        result = func(*args, **kwargs)
        return self.all_rounded(result, name)

    def at(self, where: str) -> "PessimisticFloat16":
        """Itself, with another name for what is computed next."""
        self.where = where
        return self

    def all_rounded(self, values: Any, name: str) -> Any:  # noqa: ANN401 what operations return
        """Every tensor in a result rounded, whatever the result is."""
        return tree_map(lambda v: self.rounded(v, name) if isinstance(v, Tensor) else v, values)

    def rounded(self, value: Tensor, name: str, *, may_be_faint: bool = False) -> Tensor:
        """The tensor in float16, held in float32; one of another type stays as it is."""
        if value.dtype != torch.float32 or not value.numel():
            return value
        self._note(float(value.abs().max()), name, may_be_faint=may_be_faint)
        return value.half().float()

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product, its partial sums bounded and its result rounded."""
        self._bound(aten.matmul.default, (a, b), (0, 1, None))
        return self.rounded(a @ b, "matmul")

    def _note(self, peak: float, name: str, *, may_be_faint: bool) -> None:
        tensor = f"{self.where} {name}".strip()
        self._note_large(tensor, peak)
        if 0 < peak < self.faintest.value and not may_be_faint:
            self.faintest = Extreme(tensor, peak)

    def _note_large(self, tensor: str, peak: float) -> None:
        """Keep the largest; after an overflow only what is larger and still a number."""
        if not math.isfinite(peak):  # made of infinity, which is named already, or of float32's own
            peak = math.inf if self.largest.value <= FLOAT16_MAX else 0.0
        if peak > self.largest.value:
            self.largest = Extreme(tensor, peak)

    def _bound(
        self,
        func: Any,  # noqa: ANN401 an OpOverload
        args: tuple[Any, ...],
        places: tuple[int, int, int | None],
    ) -> None:
        """Note the bound of a product's partial sums: the product of absolute values."""
        absolute = list(args)
        for place in places:
            if place is not None and place < len(args) and isinstance(args[place], Tensor):
                absolute[place] = args[place].abs()
        tensor = f"{self.where} {func.overloadpacket}, partial sums".replace("aten.", "").strip()
        self._note_large(tensor, float(func(*absolute).max()))


def _layer_norm(
    half: PessimisticFloat16,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    axes = list(range(-len(shape), 0))
    # Of values that a layer has centred already it is next to nothing, and what counts is what is
    # left of them.
    mean = _average(half, x, axes, may_be_faint=True)
    centered = half.rounded(x - mean, "layer_norm, centered")
    squares = half.rounded(centered * centered, "layer_norm, squares")
    variance = _average(half, squares, axes, name="layer_norm, sum of squares")
    scale = half.rounded(torch.rsqrt(half.rounded(variance + eps, "layer_norm")), "layer_norm")
    y = half.rounded(centered * scale, "layer_norm")
    if weight is not None:
        y = half.rounded(y * weight, "layer_norm, scaled")
    if bias is not None:
        y = half.rounded(y + bias, "layer_norm, shifted")
    return y, mean, variance


def _mean(
    half: PessimisticFloat16,
    x: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    axes = list(range(x.ndim)) if dim is None else list(dim)
    return _average(half, x, axes, keepdim=keepdim)


def _average(
    half: PessimisticFloat16,
    x: Tensor,
    axes: list[int],
    *,
    keepdim: bool = True,
    name: str = "sum of a mean",
    may_be_faint: bool = False,
) -> Tensor:
    total = half.rounded(x.sum(axes, keepdim=keepdim), name, may_be_faint=may_be_faint)
    mean = total / math.prod(x.shape[axis] for axis in axes)
    return half.rounded(mean, "mean", may_be_faint=may_be_faint)


def _softmax(half: PessimisticFloat16, x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    shifted = half.rounded(x - x.amax(dim, keepdim=True), "softmax")
    powers = half.rounded(torch.exp(shifted), "softmax")
    total = half.rounded(powers.sum(dim, keepdim=True), "softmax, sum")
    return half.rounded(powers / total, "softmax")


def _gelu(half: PessimisticFloat16, x: Tensor, *, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        cube = half.rounded(half.rounded(x * x, "gelu, square") * x, "gelu, cube")
        inner = half.rounded(x + half.rounded(cube * 0.044715, "gelu"), "gelu")
        inner = half.rounded(inner * math.sqrt(2 / math.pi), "gelu")
        gate = half.rounded(1 + half.rounded(torch.tanh(inner), "gelu"), "gelu")
    else:
        inner = half.rounded(x * math.sqrt(0.5), "gelu")
        gate = half.rounded(1 + half.rounded(torch.erf(inner), "gelu"), "gelu")
    return half.rounded(half.rounded(x * 0.5, "gelu") * gate, "gelu")


def _batch_norm(  # noqa: PLR0913, PLR0917 torch's signature
    half: PessimisticFloat16,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """With fixed statistics: one multiplication and one addition by channel."""
    scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    shape = [1, -1, *[1] * (x.ndim - 2)]
    scaled = half.rounded(x * half.rounded(scale, "batch_norm").reshape(shape), "batch_norm")
    y = half.rounded(scaled + half.rounded(shift, "batch_norm").reshape(shape), "batch_norm")
    return y, mean, variance


def _attention(  # noqa: PLR0913 torch's signature
    half: PessimisticFloat16,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    logits = half.product(half.rounded(q * factor, "attention"), k.transpose(-2, -1))
    if attn_mask is not None:
        logits = half.rounded(logits + attn_mask, "attention")
    return half.product(_softmax(half, logits, -1), v), logits


STEPS: dict[Any, Callable[..., Any]] = {
    aten.native_layer_norm: _layer_norm,
    aten.native_batch_norm: _batch_norm,
    aten.mean: _mean,
    aten._softmax: _softmax,
    aten.gelu: _gelu,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}
