"""Static int8: weights in int8, and activations with ranges that samples have fixed, for NPUs.

Only ops of the listed kinds compute in integers, but for those that a recipe excepts by name;
between them stand QUANTIZE and DEQUANTIZE, and all else, with the inputs and outputs of the file,
stays float32. Ranges are the least and greatest
values over all samples, observed while LiteRT runs the float32 file.
"""

import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mobilesam_export.backends import tflite_file
from mobilesam_export.contract import Array, GraphSpec
from mobilesam_export.errors import ConversionError, TargetError
from mobilesam_export.quiet import quiet_descriptors

WEIGHT_BITS = 8
ACTIVATION_BITS = {"int8": 8, "int16": 16}


def quantize(
    content: bytes,
    kinds: Mapping[str, str],
    activations: str,
    float32: Sequence[str],
    spec: GraphSpec,
    samples: Sequence[Mapping[str, Array]],
) -> bytes:
    """Let ops of these kinds compute in integers.

    Args:
        content: a float32 file.
        kinds: of ops, each with ai-edge-quantizer's name for it.
        activations: "int8" or "int16".
        float32: patterns of the first output of ops that stay as they are all the same.
        spec: its interface.
        samples: its inputs, to find the ranges on.

    Raises:
        TargetError: there are no samples, or a pattern is of no such op.
        ConversionError: the quantizer refused the file, or LiteRT could not run it.
    """
    if not samples:
        raise TargetError("this recipe fixes ranges of activations and was given no samples")
    kept = _matching(content, kinds, float32, spec)
    with quiet_descriptors():
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

        try:
            made = quantizer.Quantizer(float_model=bytearray(content))
            for kind in kinds.values():
                made.add_static_config(
                    ".*",
                    qtyping.TFLOperationName(kind),
                    activation_num_bits=ACTIVATION_BITS[activations],
                    weight_num_bits=WEIGHT_BITS,
                )
            if kept:  # the last word counts; the quantizer calls an op by its outputs, each with ;
                made.update_quantization_recipe(
                    "^(" + "|".join(re.escape(name) for name in kept) + ");$",
                    qtyping.TFLOperationName.ALL_SUPPORTED,
                    algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE,
                )
            ranges = _ranges(content, spec, samples)
            found = made.quantize(ranges, enable_progress_report=False).quantized_model
        except (ValueError, RuntimeError, KeyError, TypeError) as exc:
            line = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise ConversionError(
                f"ai-edge-quantizer could not quantise the {spec.name}: {line}"
            ) from exc
    if found is None:
        raise ConversionError(f"ai-edge-quantizer found nothing to quantise in the {spec.name}")
    return bytes(found)


def _matching(
    content: bytes, kinds: Collection[str], patterns: Sequence[str], spec: GraphSpec
) -> list[str]:
    """Names of ops of these kinds that fit a pattern."""
    model = tflite_file.read(content)
    (graph,) = model.subgraphs
    known = tflite_file.op_kinds(model)
    names = [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if known[operator.opcodeIndex] in kinds
    ]
    found: list[str] = []
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise TargetError(
                f"{pattern!r} is no op of the {spec.name} that this can be said of; there are "
                f"{len(names)}, such as {', '.join(names[:3])}"
            )
        found += fitting
    return found


def _ranges(content: bytes, spec: GraphSpec, samples: Sequence[Mapping[str, Array]]) -> Any:
    """Least and greatest value of every tensor.

    The quantizer's own `calibrate` averages samples by weights of 0.05, which eight of them do not
    move far from the first.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    observer = calibrator.Calibrator(
        bytearray(content),
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,  # keeps no tensor
        qsv_update_func=qsv_utils.min_max_update,
    )
    inputs = [dict(sample) for sample in samples]
    observer.calibrate({spec.name: inputs}, recipe_manager.RecipeManager())
    return observer.get_model_qsvs()
