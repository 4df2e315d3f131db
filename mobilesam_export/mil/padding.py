"""Padding of convolutions and pooling: MIL's attributes -> amounts for each axis."""

from collections.abc import Sequence

Pads = list[tuple[int, int]]


def spatial_padding(
    pad_type: str,
    pad: Sequence[int] | None,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> Pads:
    """Amounts added before and after each spatial axis.

    Args:
        pad_type: "valid", "custom", "same" or "same_lower". "same" gives ceil(size / stride)
            outputs, and an odd rest goes to the end, as in TensorFlow and PyTorch; with
            "same_lower" it goes to the beginning.
        pad: before and after, axis after axis; used by "custom" only.
        sizes: of the input's spatial axes.
        kernel: of the window, dilation included.
        strides: of the window.

    Raises:
        ValueError: an unknown pad_type.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        flat = list(pad) if pad is not None else [0] * (2 * len(sizes))
        return list(zip(flat[::2], flat[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r} is unknown")
    pads = []
    for size, window, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if pad_type == "same" else (large, small))
    return pads


def torch_padding(pads: Pads) -> list[int]:
    """The same for torch's `F.pad`: the last axis first."""
    return [amount for pair in reversed(pads) for amount in pair]
