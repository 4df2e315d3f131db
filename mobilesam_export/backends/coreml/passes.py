"""Rewrites of ML Programs that coremltools does not do itself. Slow to import: do so late."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilesam_export.quiet import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass
    from coremltools.models import utils

NAMESPACE = "mobilesam_export"


def applied(model: Any, *graph_passes: Any) -> Any:
    """An MLModel after more passes, in the way of coremltools' own compression.

    All at once, since a hundred of its own follow each time.
    """
    if not graph_passes:
        return model
    version = model.get_spec().specificationVersion
    return utils._apply_graph_pass(model, graph_passes, spec_version=version, skip_model_load=True)


def pipeline() -> Any:
    """Coremltools' own passes and then ours."""
    passes = ct.PassPipeline.DEFAULT
    passes.append_pass(f"{NAMESPACE}::merge_slices")
    return passes


@register_pass(namespace=NAMESPACE)
class merge_slices(AbstractGraphPass):  # type: ignore[misc]
    """Two slices in a row become one, so that a crop of two axes copies the map once.

    torch.export writes a slice for each axis.
    """

    def apply(self, prog: Any) -> None:
        for function in prog.functions.values():
            _merge_in_block(function)


@block_context_manager  # type: ignore[untyped-decorator]
def _merge_in_block(block: Any) -> None:
    for op in list(block.operations):
        before = op.x.op if op.op_type == "slice_by_index" else None
        if before is None or before.op_type != "slice_by_index":
            continue
        if before.outputs[0].child_ops != [op] or before.outputs[0] in block.outputs:
            continue
        inner, outer = _ranges(before), _ranges(op)
        if inner is None or outer is None:
            continue
        merged = mb.slice_by_index(
            x=before.x,
            begin=[a + b for (a, _), (b, _) in zip(inner, outer, strict=True)],
            end=[a + b for (a, _), (_, b) in zip(inner, outer, strict=True)],
            name=op.outputs[0].name,
            before_op=op,
        )
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=merged)
        block.remove_ops([before, op])


def _ranges(op: Any) -> list[tuple[int, int]] | None:
    """First and past-the-last index on each axis; None for a slice that does more than cut."""
    rank = len(op.x.shape)
    stride = op.stride.val if op.stride is not None else [1] * rank
    squeeze = op.squeeze_mask.val if op.squeeze_mask is not None else [False] * rank
    if op.begin.val is None or op.end.val is None or any(squeeze) or any(s != 1 for s in stride):
        return None
    from_start = op.begin_mask.val if op.begin_mask is not None else [False] * rank
    to_end = op.end_mask.val if op.end_mask is not None else [False] * rank
    found = []
    for axis, size in enumerate(op.x.shape):
        begin = 0 if from_start[axis] else int(op.begin.val[axis])
        end = size if to_end[axis] else int(op.end.val[axis])
        if not 0 <= begin < end <= size:
            return None
        found.append((begin, end))
    return found


class quantize_inputs(AbstractGraphPass):  # type: ignore[misc]
    """Convolutions take int8: their inputs are quantised, and dequantised in front of them.

    Core ML fuses the pair with the convolution; convolutions of one input share it.
    """

    def __init__(self, affines: Mapping[str, Any]) -> None:
        """By the name of a convolution's weight, with `scale` and `zero_point`."""
        self.affines = affines

    def apply(self, prog: Any) -> None:
        for function in prog.functions.values():
            _quantize_in_block(function, self.affines)


@block_context_manager  # type: ignore[untyped-decorator]
def _quantize_in_block(block: Any, affines: Mapping[str, Any]) -> None:
    made: dict[str, Any] = {}
    for op in list(block.operations):
        if op.op_type != "conv" or op.weight.name not in affines:
            continue
        affine = affines[op.weight.name]
        if op.x.name not in made:
            made[op.x.name] = _int8_and_back(op.x, affine, op)
        inputs = {name: value for name, value in op.inputs.items() if value is not None}
        inputs["x"] = made[op.x.name]
        output = mb.conv(**inputs, name=op.name, before_op=op)
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=output)
        block.remove_ops([op])


def _int8_and_back(x: Any, affine: Any, op: Any) -> Any:
    numbers = {
        "scale": np.array(affine.scale, types.nptype_from_builtin(x.dtype)),
        "zero_point": np.array(affine.zero_point, np.int8),
    }
    small = mb.quantize(
        input=x, **numbers, output_dtype="int8", name=f"{x.name}_int8", before_op=op
    )
    return mb.dequantize(input=small, **numbers, name=f"{x.name}_from_int8", before_op=op)


class replace_constants(AbstractGraphPass):  # type: ignore[misc]
    """Other numbers of the same shape and type in some constants."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """By the constants' names."""
        self.values = values

    def apply(self, prog: Any) -> None:
        for function in prog.functions.values():
            _replace_in_block(function, self.values)


@block_context_manager  # type: ignore[untyped-decorator]
def _replace_in_block(block: Any, values: Mapping[str, Any]) -> None:
    for op in list(block.operations):
        if op.op_type != "const" or op.outputs[0].name not in values:
            continue
        old = op.outputs[0]
        new = mb.const(val=values[old.name], name=old.name, before_op=op)
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=old, new_var=new)
        block.remove_ops([op])
