"""Every kernel: importing this module fills the registry."""

from mobilesam_export.evaluator import (
    ops_activation,
    ops_elementwise,
    ops_indexing,
    ops_layout,
    ops_linear,
    ops_making,
    ops_normalization,
    ops_pooling,
    ops_quantization,
    ops_reduction,
    ops_resizing,
    ops_weights,
)
from mobilesam_export.evaluator.kernels import KERNELS

MODULES = (
    ops_activation,
    ops_elementwise,
    ops_indexing,
    ops_layout,
    ops_linear,
    ops_making,
    ops_normalization,
    ops_pooling,
    ops_quantization,
    ops_reduction,
    ops_resizing,
    ops_weights,
)

__all__ = ["KERNELS", "MODULES"]
