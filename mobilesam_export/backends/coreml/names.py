"""Which weight of the export form a constant of an ML Program is.

torch.export calls `stem.conv1.weight` `p_stem_conv1_weight`; buffers begin with `b_`. coremltools
adds `_to_fp16` to what it has rounded.
"""

from collections.abc import Iterable

from torch import nn

SUFFIX = "_to_fp16"


def weight_paths(constants: Iterable[str], module: nn.Module) -> dict[str, str]:
    """By name of those constants that are weights of the module, the name in the module."""
    known = {f"p_{name.replace('.', '_')}": name for name, _ in module.named_parameters()}
    known |= {f"b_{name.replace('.', '_')}": name for name, _ in module.named_buffers()}
    paths = {name: known.get(name.removesuffix(SUFFIX)) for name in constants}
    return {name: path for name, path in paths.items() if path is not None}
