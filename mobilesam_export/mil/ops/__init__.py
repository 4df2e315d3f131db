"""Every kernel: importing this module fills the registry."""

from mobilesam_export.mil.kernels import KERNELS
from mobilesam_export.mil.ops import (
    activation,
    elementwise,
    indexing,
    layout,
    linear,
    making,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
    weights,
)

MODULES = (
    activation,
    elementwise,
    indexing,
    layout,
    linear,
    making,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
    weights,
)

__all__ = ["KERNELS", "MODULES"]
