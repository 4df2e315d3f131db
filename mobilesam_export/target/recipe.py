"""A [recipe.NAME] table: types of weights and activations, and the tolerance of its files."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mobilesam_export.errors import TargetError
from mobilesam_export.target.words import check_choice

PRECISIONS = ("float32", "float16")
COMPRESSED = ("int8", "int4", "palette8", "palette6", "palette4")  # palettes of 256, 64, 16 values
# int8 by ranges found at run time; int8 or int16 by ranges fixed at export, from calibration
ACTIVATIONS = (*PRECISIONS, "dynamic-int8", "int8", "int16")
EXCEPTIONS = ("float32", "float16", "int8", "palette8", "palette6", "palette4")
GRAPHS = ("encoder", "decoder")
GRANULARITIES = ("per_tensor", "per_channel", "per_grouped_channel")
# How much more of the band along its outline than of itself a mask may lose. A wrong outline lies
# in the band, so the loss grows as mask to band: in files of our recipes up to 7.6 times, 2.5 on
# average (demo, 256). Only large masks, whose area hides a wrong outline, reach this limit first.
OUTLINE = 5
# The upper bound of each tolerance; the lower one is 0, and all are finite.
LARGEST = {
    "embedding_psnr_db": math.inf,
    "logits_error": math.inf,
    "iou_max_abs_error": 1.0,
    "mask_iou": 1.0,
    "mean_mask_iou": 1.0,
}


@dataclass(frozen=True)
class Tolerance:
    """Largest errors of an exported file against float32 PyTorch, over all verification prompts.

    Attributes:
        embedding_psnr_db: least peak signal-to-noise ratio of the image embedding, in dB, the
            peak being the largest absolute value of the reference; 0 or more.
        logits_error: largest error of a mask logit, in standard deviations of the reference's
            logits over all prompts (`cases.logits_spread`), so that it fits weights of any scale;
            0 or more.
        iou_max_abs_error: largest error of a predicted IoU; 0 to 1.
        mask_iou: least intersection over union of the chosen mask at the image's size; 0 to 1. It
            sets `boundary_iou` as well.
        mean_mask_iou: least mean of the same over all prompts (`--min-iou`); 0 to 1.
    """

    embedding_psnr_db: float
    logits_error: float
    iou_max_abs_error: float
    mask_iou: float
    mean_mask_iou: float = 0.0

    @property
    def boundary_iou(self) -> float:
        """Least boundary IoU of the chosen mask (`metrics.boundary_iou`); 0 to 1."""
        return max(0.0, 1 - OUTLINE * (1 - self.mask_iou))

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= largest):
                limit = "0 or more" if math.isinf(largest) else f"0 to {largest:g}"
                raise TargetError(f"{name} is {value}; expected a finite number, {limit}", name)


@dataclass(frozen=True)
class Runtime:
    """The least version that computes a recipe's files rightly, as it was run.

    Attributes:
        name: of the runtime, for instance "ONNX Runtime".
        minimum: its version.
    """

    name: str
    minimum: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(\.\d+)*", self.minimum):
            raise TargetError(
                f"minimum is {self.minimum!r}; expected a version such as '1.23.2'", "minimum"
            )


@dataclass(frozen=True)
class Recipe:
    """Types in which weights are stored and values are computed.

    Attributes:
        weights: type in which weights are stored: a precision, "int8" or a palette.
        activations: type in which the file computes: one of ACTIVATIONS.
        tolerance: for `verify`.
        keep_float32: parts that stay float32, in the backend's own words.
        granularity: the group of weights that share a scale or palette; "" unless compressed.
        group_size: channels that share a palette where the granularity is per_grouped_channel.
        weight_threshold: tensors with at most so many elements are not compressed.
        exceptions: for each graph, patterns of weights (see `patterns`) -> in what those are
            stored instead: "float16" (not compressed), or one palette per tensor. Those of the
            target are among them.
        convert: options of the backend that this recipe has other than the target's.
        quantize: how the backend quantises, in its own words and checked there. Lists by graph in
            a table of it, such as `float_inputs.encoder`, are patterns of weights as well.
        calibrate_weights: whether compressed weights are chosen by their error on sample inputs.
        runtime: the least version that was run; None where none was.
        fitted_to: SHA-256 of the weights whose damage has raised some exceptions; "" if none has.
    """

    weights: str
    activations: str
    tolerance: Tolerance
    keep_float32: tuple[str, ...] = ()
    granularity: str = ""
    group_size: int = 0
    weight_threshold: int = 0
    exceptions: Mapping[str, Any] = field(default_factory=dict)
    convert: Mapping[str, Any] = field(default_factory=dict)
    quantize: Mapping[str, Any] = field(default_factory=dict)
    calibrate_weights: bool = False
    runtime: Runtime | None = None
    fitted_to: str = ""

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, (*PRECISIONS, *COMPRESSED), "weights")
        check_choice("activations", self.activations, ACTIVATIONS, "activations")
        self._check_compression()
        check_exceptions(self.exceptions)

    @property
    def compressed(self) -> bool:
        """Whether weights are stored in fewer bits than they are computed in."""
        return self.weights in COMPRESSED

    @property
    def calibrated(self) -> bool:
        """Whether the export needs sample images."""
        return self.activations in ("int8", "int16") or self.calibrate_weights

    def uncompressed(self, weights: str, activations: str) -> "Recipe":
        """The same without anything that compresses, for a file that no exception speaks of."""
        return replace(
            self,
            weights=weights,
            activations=activations,
            granularity="",
            group_size=0,
            weight_threshold=0,
            exceptions={},
            quantize={},
            calibrate_weights=False,
        )

    def patterns(self, graph: str) -> Iterator[tuple[str, ...]]:
        """The keys of each pattern of weights of this graph; the last key is the pattern."""
        for pattern in self.exceptions.get(graph, {}):
            yield "exceptions", graph, pattern
        for key, table in self.quantize.items():
            patterns = table.get(graph) if isinstance(table, Mapping) else None
            for pattern in patterns if isinstance(patterns, list | tuple) else ():
                if isinstance(pattern, str):
                    yield "quantize", key, graph, pattern

    def _check_compression(self) -> None:
        """Refuse options of compression without compressed weights, and wrong or missing ones."""
        if not self.compressed:
            for name in ("granularity", "group_size", "weight_threshold", "exceptions"):
                if getattr(self, name):
                    raise TargetError(
                        "granularity, group_size, weight_threshold and exceptions are for "
                        f"compressed weights, but weights are {self.weights!r}",
                        name,
                    )
            return
        check_choice("granularity", self.granularity, GRANULARITIES, "granularity")
        grouped = self.granularity == "per_grouped_channel"
        if self.weight_threshold < 0 or grouped != (self.group_size > 0):
            raise TargetError(
                f"granularity is {self.granularity!r}, group_size {self.group_size} and "
                f"weight_threshold {self.weight_threshold}; expected a group_size of 1 or more "
                "for per_grouped_channel, none for others, and a threshold of 0 or more",
                "weight_threshold" if self.weight_threshold < 0 else "group_size",
            )


def check_exceptions(exceptions: Mapping[str, Any]) -> None:
    """Refuse an [exceptions] table, of a recipe or of a target, with a wrong word.

    Raises:
        TargetError: a key is no graph, or a value no type of weights.
    """
    for graph, patterns in exceptions.items():
        check_choice("a graph in exceptions", graph, GRAPHS, "exceptions", graph)
        if not isinstance(patterns, dict):
            raise TargetError(
                f"exceptions, {graph}: expected a table, found {patterns!r}", "exceptions", graph
            )
        for pattern, weights in patterns.items():
            keys = ("exceptions", graph, pattern)
            check_choice(f"exceptions, {graph}, {pattern}", weights, EXCEPTIONS, *keys)
