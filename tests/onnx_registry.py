"""torch.onnx's table of a thousand operations, made once: else a second of each graph's export.

`tests/cli_runner.py` imports this into the process that its others are forked from.
"""

from functools import cache

from torch.onnx._internal.exporter._registration import ONNXRegistry

from mobilesam_export.quiet import quiet

ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
with quiet():
    ONNXRegistry.from_torchlib()
