"""The record of a bundle that `benchmark --save` writes, for `compare` with a later one.

It has the figures of its files, and its masks for the verification prompts.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.benchmark.figures import Figures, file_figures
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.errors import MeasurementError
from mobilesam_export.files import read_json
from mobilesam_export.inspection.report import GraphReport
from mobilesam_export.predictor import Predictor
from mobilesam_export.verification.cases import object_prompts, verification_scenes

SCHEMA_VERSION = 1
KIND = "mobilesam-export benchmark"

Masks = Mapping[str, NDArray[np.bool_]]  # "image, prompt" -> a mask of the decoder's size


@dataclass(frozen=True)
class Baseline:
    """Figures and masks of one bundle.

    Attributes:
        target, recipe, image_size, points, weights_sha256: as its manifest says.
        figures: by graph.
        masks: empty if the bundle could not be run, or if no file is written.
    """

    target: str
    recipe: str
    image_size: int | str
    points: int
    weights_sha256: str
    figures: Mapping[str, Figures]
    masks: Masks = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        masks = values.pop("masks")
        return {**values, **({"masks": pack_masks(masks)} if masks else {})}


@dataclass(frozen=True)
class StoredBaselines:
    """The baselines in a file of `benchmark --save`.

    Attributes:
        fingerprint: of the measured machine; "" if the file has none.
        baselines: by the bundle's folder name.
    """

    fingerprint: str
    baselines: Mapping[str, Baseline]


def baseline(bundle: Bundle, reports: Mapping[str, GraphReport]) -> Baseline:
    """The baseline of a bundle, without its masks.

    Args:
        bundle: the bundle.
        reports: of its files, by graph.
    """
    return Baseline(
        target=bundle.target,
        recipe=bundle.recipe_name,
        image_size=bundle.contract.size.option,
        points=bundle.contract.points,
        weights_sha256=bundle.provenance.weights_sha256,
        figures={graph: file_figures(report) for graph, report in reports.items()},
    )


def bundle_masks(predictor: Predictor) -> dict[str, NDArray[np.bool_]]:
    """A bundle's masks for the verification prompts, at the decoder's resolution.

    Returns:
        "image, prompt" -> (height, width) bool: the chosen mask without the padding.
    """
    masks, contract = {}, predictor.contract
    for name, scene in verification_scenes(contract.image_size).items():
        image = predictor.embed(scene.image)
        height, width = prompts.resized_size(*image.size, contract.size.over(4))
        largest = max(scene.masks, key=np.count_nonzero)
        for label, prompt in object_prompts(largest, contract.max_points).items():
            answer = predictor.predict(prompt, image)
            logits = answer.low_res_mask[0, 0, :height, :width]
            masks[f"{name}, {label}"] = np.asarray(logits > 0)
    return masks


def read_baselines(path: Path) -> StoredBaselines:
    """Read the baselines from a file of `benchmark --save`.

    Raises:
        MeasurementError: it cannot be read, is something else, or is damaged.
    """
    content = read_json(path, MeasurementError)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise MeasurementError(f"{path} was not written by `benchmark --save`")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise MeasurementError(
            f"{path} has version {content.get('schema_version')} of the file of measurements; "
            f"this program reads version {SCHEMA_VERSION}: measure again or upgrade"
        )
    machine, bundles = content.get("machine", {}), content.get("bundles", {})
    if not isinstance(machine, dict) or not isinstance(bundles, dict):
        raise MeasurementError(f"{path} is damaged: its machine or its bundles are no table")
    baselines = {name: _parse(item, f"{path} is damaged: {name}") for name, item in bundles.items()}
    return StoredBaselines(str(machine.get("fingerprint", "")), baselines)


def _parse(item: Any, label: str) -> Baseline:  # noqa: ANN401 any JSON
    try:
        graphs = dict.fromkeys((*GRAPHS, *item["figures"]))
        figures = {graph: _figures(item["figures"][graph]) for graph in graphs}
        return Baseline(
            target=item["target"],
            recipe=item["recipe"],
            image_size=item["image_size"],
            points=item["points"],
            weights_sha256=item["weights_sha256"],
            figures=figures,
            masks=unpack_masks(item.get("masks", {})),
        )
    except KeyError as exc:
        raise MeasurementError(f"{label} has no {exc}") from exc
    except (TypeError, AttributeError, ValueError) as exc:
        raise MeasurementError(f"{label}: {exc}") from exc


def _figures(table: Mapping[str, Any]) -> Figures:
    for name, value in table.items():
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{name} is {value!r}, expected a whole number or null")
    return dict(table)


def pack_masks(masks: Masks) -> dict[str, Any]:
    """For JSON: one bit a pixel, compressed."""
    return {
        name: {
            "shape": list(mask.shape),
            "bits": base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode(),
        }
        for name, mask in masks.items()
    }


def unpack_masks(table: Mapping[str, Any]) -> dict[str, NDArray[np.bool_]]:
    """Unpack the output of `pack_masks`.

    Raises:
        MeasurementError: it is damaged.
    """
    try:
        return {name: _unpack(item) for name, item in table.items()}
    except (KeyError, TypeError, AttributeError, ValueError, zlib.error) as exc:
        raise MeasurementError(f"the baseline's masks are damaged: {exc}") from exc


def _unpack(item: Mapping[str, Any]) -> NDArray[np.bool_]:
    height, width = item["shape"]
    raw = np.frombuffer(zlib.decompress(base64.b64decode(item["bits"])), np.uint8)
    mask: NDArray[np.bool_] = np.unpackbits(raw, count=height * width).reshape(height, width) > 0
    return mask
