"""What a file takes and gives: its tensors, by name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph; a str in `shape` is a dynamic axis."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class GraphSpec:
    """The interface of one file."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def role(self) -> str:
        """What a recipe calls it: "encoder" or "decoder", of which all other files are parts."""
        return "encoder" if self.name == "encoder" else "decoder"


# Names of the halves of one file -> names in that file, which are EfficientSAM's: those of
# github.com/apple/coreai-models (commit 86b363d), `models/efficient-sam/export.py`. There all but
# the image have a further axis, of queries, behind that of images.
FUSED_NAMES = {
    "image": "batched_images",
    "point_coords": "batched_points",
    "point_labels": "batched_point_labels",
    "low_res_masks": "pred_masks",
    "iou_predictions": "iou_scores",
}
APART_NAMES = {fused: name for name, fused in FUSED_NAMES.items()}


def fused_spec(encoder: GraphSpec, decoder: GraphSpec) -> GraphSpec:
    """The interface of one file for both, which takes one image and one query.

    Args:
        encoder: takes the image.
        decoder: takes an embedding, points and labels, and gives masks and their predicted IoU.
    """
    inputs = (*encoder.inputs, *decoder.inputs[1:])
    return GraphSpec(
        "segmenter",
        tuple(_fused_tensor(tensor) for tensor in inputs),
        tuple(_fused_tensor(tensor) for tensor in decoder.outputs),
    )


def _fused_tensor(tensor: TensorSpec) -> TensorSpec:
    shape = tensor.shape if tensor.name == "image" else (1, *tensor.shape)
    return replace(tensor, name=FUSED_NAMES[tensor.name], shape=shape)


def fused_arrays(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of the halves -> those of the file."""
    return {
        FUSED_NAMES[name]: array if name == "image" else array[None]
        for name, array in arrays.items()
        if name in FUSED_NAMES
    }


def apart_arrays(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of the file -> those of its halves; others stay as they are."""
    return {
        APART_NAMES.get(name, name): array[0]
        if APART_NAMES.get(name, "image") != "image"
        else array
        for name, array in arrays.items()
    }
