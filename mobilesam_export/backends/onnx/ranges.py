"""Ranges of activations, by running a float32 model on calibration samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mobilesam_export.backends.onnx.graph import Array, Node
from mobilesam_export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("minmax", "percentile", "entropy", "mse")
SUBSAMPLE = 250_000  # elements of a tensor and sample that histograms are made of
BINS = {"percentile": 2048, "entropy": 512}  # entropy tries every pair of ends that is symmetric
KEPT = 20_000  # elements of a tensor and sample that squared errors are summed over
PARTS = np.linspace(0.3, 1, 15)  # of the whole range, that "mse" tries
LEVELS = 255  # steps of uint8
QUANTIZED_BINS = 128  # what the distribution is compared in, as in TensorRT
Range = tuple[float, float]


@dataclass(frozen=True)
class Finder:
    """Finds ranges on samples, those of a tensor once.

    Attributes:
        samples: inputs of the model; none where ranges are found at each run of the file.
        method: see `find_ranges`.
        percentile: see there.
        examples: other inputs, to compare what the model answers to where there are no samples.
        known: what was found, by tensor; of the same model only.
        moments: the same of second moments, see `compensation`.
    """

    samples: Sequence[Mapping[str, Array]]
    method: str
    percentile: float
    examples: Sequence[Mapping[str, Array]] = ()
    known: dict[str, Range] = field(default_factory=dict)
    moments: "dict[str, Tensor]" = field(default_factory=dict)

    def find(self, model: Node, tensors: Sequence[str]) -> Mapping[str, Range]:
        """The ranges of these tensors at least."""
        if new := [name for name in tensors if name not in self.known]:
            found = find_ranges(model, new, self.samples, self.method, self.percentile)
            self.known.update(found)
        return self.known


def find_ranges(
    model: Node,
    tensors: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
    method: str,
    percentile: float,
) -> dict[str, Range]:
    """The range of each tensor over all samples.

    Args:
        model: float32.
        tensors: names.
        samples: inputs of the model, one or more.
        method: "minmax" takes everything; "percentile" leaves out half of 100 - percentile at
            each end; "entropy" is ONNX Runtime's, which keeps the distribution's shape; "mse" is
            the part of the range with the least squared error.
        percentile: up to 100, which is everything.
    """
    low = dict.fromkeys(tensors, np.inf)
    high = dict.fromkeys(tensors, -np.inf)
    collector = _collector(method, percentile) if method in BINS else None
    kept: dict[str, list[Array]] = {name: [] for name in tensors}
    for outputs in observe(model, tensors, samples):
        for name, value in outputs.items():
            low[name] = min(low[name], float(value.min()))
            high[name] = max(high[name], float(value.max()))
            if method == "mse":
                kept[name].append(_thinned(value, KEPT).copy())
        if collector is not None:
            with quiet():
                collector.collect({name: [_thinned(v)] for name, v in outputs.items()})
    found = {name: (low[name], high[name]) for name in tensors}
    if method == "mse":
        return {name: _least_error(found[name], np.concatenate(kept[name])) for name in tensors}
    if collector is None:
        return found
    with quiet():
        clipped = collector.compute_collection_result()
    return {name: _within(found[name], clipped[name]) for name in tensors}


def observe(
    model: Node, tensors: Sequence[str], samples: Sequence[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """These tensors by name, as they are inside the model; those of one sample at a time."""
    import onnx
    import onnxruntime

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    known = {item.name for item in observed.graph.output}
    extra = [name for name in tensors if name not in known]
    observed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in extra)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        observed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for sample in samples:
        values = session.run(list(tensors), dict(sample))
        yield dict(zip(tensors, values, strict=True))


def _collector(method: str, percentile: float) -> Node:
    from onnxruntime.quantization.calibrate import HistogramCollector

    return HistogramCollector(
        method=method,
        symmetric=False,
        num_bins=BINS[method],
        num_quantized_bins=QUANTIZED_BINS,
        percentile=percentile,
        scenario="same",
    )


def _least_error(found: Range, values: Array) -> Range:
    """The part of a range that leaves the least squared error of these values in uint8."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)

    def error(part: float) -> float:
        scale = max(part * (high - low) / LEVELS, 1e-12)
        zero = round(-part * low / scale)
        rounded = (np.clip(np.round(values / scale) + zero, 0, LEVELS) - zero) * scale
        return float(np.square(rounded - values).mean())

    part = float(min(PARTS, key=error))
    return part * low, part * high


def fixed(method: str, low: float, high: float, values: Array) -> Range:
    """The range of a tensor from its least and greatest value and a sample of the others.

    Args:
        method: "minmax" or "mse", see `find_ranges`.
        low: the least value.
        high: the greatest.
        values: some of the others.
    """
    return _least_error((low, high), values) if method == "mse" else (low, high)


def _thinned(value: Array, most: int = SUBSAMPLE) -> Array:
    """Every n-th value, n odd, so that no channel of an even number of them is left out."""
    step = value.size // most | 1
    return value.ravel()[::step]


def _within(found: Range, clipped: Node) -> Range:
    """A histogram's answer (lowest, highest, ...), which can be wider than what was seen."""
    low, high = (float(value) for value in clipped[:2])
    return max(found[0], low), min(found[1], high)
