"""Weights in int8, by ai-edge-quantizer, by kind of op: what a delegate has no kernel for is slow.

Activations are float32 and quantised row by row at each run (dynamic), or int8 or int16 with ranges
that samples have fixed (static, for NPUs): the least and greatest values, observed while LiteRT
runs the float32 file. Only ops of the listed kinds compute in integers, but for those that a recipe
excepts by name; all else, with the inputs and outputs of the file, stays float32.
"""

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mobilesam_export.backends.tflite import model_file
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import ConversionError, TargetError, first_line
from mobilesam_export.quiet import quiet_descriptors
from mobilesam_export.target import patterns

WEIGHT_BITS = 8
ACTIVATION_BITS = {"int8": 8, "int16": 16}
# By which ranges of samples are widened. Other images go beyond them, and what does is clipped. Of
# sixteen bits one can be spared for that, of eight none.
HEADROOM = {"int8": 1, "int16": 2}
# TFLite's names of the ops whose weights ai-edge-quantizer stores in int8, and its own names.
KINDS = {
    "BATCH_MATMUL": "BATCH_MATMUL",
    "CONV_2D": "CONV_2D",
    "DEPTHWISE_CONV_2D": "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED": "FULLY_CONNECTED",
    "TRANSPOSE_CONV": "CONV_2D_TRANSPOSE",
}


@dataclass(frozen=True)
class Quantization:
    """How one file is quantised.

    Attributes:
        int8: kinds of ops whose weights become int8, with one scale per output channel.
        stored: kinds of ops whose weights are int8 in the file only: they are unpacked when it is
            loaded, and the ops compute in float32.
        activations: "float32", or how these ops compute: "dynamic-int8", "int8" or "int16".
        float16: store the float constants that are left in float16.
        threshold: constants of up to so many numbers stay as they are.
        float32: for patterns of weights, "float32": ops with these stay as they are.
        sums: store larger constants that are added, biases of attention, in int8.
    """

    int8: tuple[str, ...]
    stored: tuple[str, ...]
    activations: str
    float16: bool
    threshold: int
    float32: Mapping[str, str] = field(default_factory=dict)
    sums: bool = False

    @property
    def static(self) -> bool:
        """Whether samples fix the ranges of activations."""
        return self.activations in ACTIVATION_BITS

    def excepts(self, weight: str) -> bool:
        """Whether ops with a weight of this name stay as they are."""
        return any(patterns.matches(weight, pattern) for pattern in self.float32)


def quantize(
    content: bytes,
    quantization: Quantization,
    spec: GraphSpec,
    samples: Sequence[Mapping[str, Array]],
    paths: Mapping[str, str],
    known: dict[str, Any] | None = None,
) -> bytes:
    """Store weights in int8, and let ops compute with them.

    Args:
        content: a float32 file.
        quantization: with kinds in `int8` or `stored`.
        spec: its interface.
        samples: its inputs, to find ranges on where these are static.
        paths: by the first output of an op, the name of its weight (`names.weight_paths`).
        known: ranges that these samples have given for this file, by tensor (`find_ranges`);
            filled if it is empty.

    Raises:
        TargetError: there are no samples, or a pattern matches the weight of no such op.
        ConversionError: the quantizer refused the file, or LiteRT could not run it.
    """
    ranges = None
    if quantization.static:
        found = known or find_ranges(content, spec, samples)
        if known is not None:
            known.update(found)
        ranges = _widened(copy.deepcopy(found), HEADROOM[quantization.activations])
    kept = _excepted(content, quantization, paths, spec)
    with quiet_descriptors():
        from ai_edge_quantizer import quantizer

        try:
            made = quantizer.Quantizer(float_model=bytearray(content))
            _configure(made, quantization, kept)
            written = made.quantize(ranges, enable_progress_report=False).quantized_model
        except (ValueError, RuntimeError, KeyError, TypeError) as exc:
            raise ConversionError(
                f"ai-edge-quantizer could not quantise the {spec.name}: {first_line(exc)}"
            ) from exc
    if written is None:
        raise ConversionError(f"ai-edge-quantizer found nothing to quantise in the {spec.name}")
    return bytes(written)


def _configure(quantizer: Any, quantization: Quantization, kept: Collection[str]) -> None:
    """Tell the quantizer; its last word on an op counts."""
    from ai_edge_quantizer import algorithm_manager, qtyping

    bits = ACTIVATION_BITS.get(quantization.activations)
    for kind in quantization.int8:
        name = qtyping.TFLOperationName(KINDS[kind])
        if bits is None:
            quantizer.add_dynamic_config(".*", name, num_bits=WEIGHT_BITS)
        else:
            quantizer.add_static_config(
                ".*", name, activation_num_bits=bits, weight_num_bits=WEIGHT_BITS
            )
    for kind in quantization.stored:
        name = qtyping.TFLOperationName(KINDS[kind])
        quantizer.add_weight_only_config(".*", name, num_bits=WEIGHT_BITS)
    if kept:  # the quantizer calls an op by its outputs, each with ;
        quantizer.update_quantization_recipe(
            "^(" + "|".join(re.escape(name) for name in kept) + ");$",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE,
        )


def _excepted(
    content: bytes, quantization: Quantization, paths: Mapping[str, str], spec: GraphSpec
) -> list[str]:
    """First outputs of ops of the listed kinds that a recipe excepts."""
    model = model_file.read(content)
    (graph,) = model.subgraphs
    kinds = model_file.op_kinds(model)
    outputs = [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if kinds[operator.opcodeIndex] in (*quantization.int8, *quantization.stored)
    ]
    weights = {output: paths[output] for output in outputs if output in paths}
    for pattern in quantization.float32:
        what = f"weight of the {spec.name} that would be int8"
        patterns.check(weights.values(), what, "exceptions", spec.name, pattern)
    return list(patterns.stored_types(weights, quantization.float32))


def find_ranges(
    content: bytes, spec: GraphSpec, samples: Sequence[Mapping[str, Array]]
) -> dict[str, Any]:
    """Least and greatest value of every tensor of a float32 file.

    The quantizer's own `calibrate` averages samples by weights of 0.05, which eight of them do not
    move far from the first.

    Raises:
        TargetError: there are no samples. ConversionError: LiteRT could not run the file.
    """
    if not samples:
        raise TargetError("this recipe fixes ranges of activations and was given no samples")
    inputs = [dict(sample) for sample in samples]
    with quiet_descriptors():
        from ai_edge_quantizer import calibrator, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils

        try:
            observer = calibrator.Calibrator(
                bytearray(content),
                num_threads=1,
                mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,  # keeps no tensor
                qsv_update_func=qsv_utils.min_max_update,
            )
            observer.calibrate({spec.name: inputs}, recipe_manager.RecipeManager())
        except (ValueError, RuntimeError, KeyError, TypeError) as exc:
            raise ConversionError(
                f"ai-edge-quantizer could not run the {spec.name} on samples: {first_line(exc)}"
            ) from exc
    found: dict[str, Any] = observer.get_model_qsvs()
    return found


def _widened(ranges: dict[str, Any], factor: float) -> dict[str, Any]:
    """Least and greatest values times a factor."""
    return {
        name: {
            key: value * factor if key in ("min", "max") else value for key, value in item.items()
        }
        for name, item in ranges.items()
    }
