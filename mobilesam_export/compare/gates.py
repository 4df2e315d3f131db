"""Gates without noise: figures of the files themselves, and masks -> pass, fail or unverified.

Ops, ranks, MACs, bytes and placements are counted in the files by `inspection`, so that the same
file always gives the same figures, on any machine. Masks are what a bundle answers to the
verification prompts.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.benchmark.subject import GRAPHS
from mobilesam_export.bundle.describe import inspect_path
from mobilesam_export.bundle.manifest import Bundle
from mobilesam_export.contract import Contract
from mobilesam_export.errors import BudgetError
from mobilesam_export.inspection.placement import Verdict
from mobilesam_export.inspection.report import GraphReport, ResidencyReport
from mobilesam_export.metrics import mask_iou
from mobilesam_export.session import Session
from mobilesam_export.verification.cases import object_prompts, verification_scenes

# Most that a figure may be, as a multiple of the base's. Where any change is a change of kind,
# nothing more is allowed; what any edit moves a little has 5 %, MACs (which cost time) 1 %.
LIMITS: Mapping[str, float] = {
    "ops": 1.05,
    "transposes": 1.0,
    "largest_rank": 1.0,
    "macs": 1.01,
    "file_bytes": 1.05,
    "peak_bytes": 1.05,
    "not_resident": 1.0,
    "partitions": 1.0,
}
MASK_IOU = "mask_iou"  # its limit is the least that is allowed
DEFAULT_MASK_IOU = 0.99

Figures = Mapping[str, int | None]  # None: not known
Masks = Mapping[str, NDArray[np.bool_]]  # "picture, prompt" -> a mask of the decoder's size


@dataclass(frozen=True)
class Gate:
    """One figure of the candidate held against the base's.

    Attributes:
        component: "encoder", "decoder", or "bundle".
        figure: a key of LIMITS, or "mask_iou".
        base, candidate: the figures; for mask_iou base is 1.
        limit: the largest ratio candidate / base; for mask_iou the least value.
        verdict: "pass", "fail" or "unverified".
        reason: why it is unverified, or which mask is the worst.
    """

    component: str
    figure: str
    base: float | None
    candidate: float | None
    limit: float
    verdict: str
    reason: str = ""


def bundle_figures(opened: Bundle) -> dict[str, Figures]:
    """What there is to gate in both files of a bundle.

    Raises:
        BundleError, BackendError: see `inspect_path`.
    """
    reports = bundle_reports(opened)
    return {graph: file_figures(report) for graph, report in reports.items()}


def bundle_reports(opened: Bundle) -> dict[str, GraphReport]:
    """Both files of a bundle, inspected."""
    return dict(zip(GRAPHS, inspect_path(opened.folder), strict=True))


def file_figures(report: GraphReport) -> dict[str, int | None]:
    """The figures of one file, by the names of LIMITS."""
    residency = report.residency
    rank = None if report.largest_rank is None else len(report.largest_rank.shape or ())
    return {
        "ops": sum(report.ops.values()),
        "transposes": sum(n for kind, n in report.ops.items() if kind.lower() == "transpose"),
        "largest_rank": rank,
        "macs": None if report.macs_uncounted else sum(report.macs.values()),
        "file_bytes": report.file_bytes,
        "peak_bytes": None if report.peak_unknown else report.peak_bytes,
        "not_resident": None if residency is None else residency.counts[Verdict.NOT_RESIDENT],
        "partitions": None if residency is None else count_partitions(residency),
    }


def count_partitions(residency: ResidencyReport) -> int:
    """Unbroken runs of ops, in the order of the file, that the delegate would take."""
    taken = [op.verdict != Verdict.NOT_RESIDENT for op in residency.ops]
    return sum(now and not before for before, now in zip([False, *taken], taken, strict=False))


def judge_figures(
    base: Mapping[str, Figures], candidate: Mapping[str, Figures], limits: Mapping[str, float]
) -> list[Gate]:
    """Hold every figure of the named limits to the base's."""
    return [
        _judge(graph, name, base[graph].get(name), candidate[graph].get(name), limit)
        for graph in GRAPHS
        for name, limit in limits.items()
        if name in LIMITS
    ]


def _judge(graph: str, name: str, base: int | None, candidate: int | None, limit: float) -> Gate:
    if base is None or candidate is None:
        known = {
            "macs": "some op's count is not known, as with dynamic sizes",
            "peak_bytes": "some tensor's size is not known",
        }
        reason = known.get(name, "no rules of a delegate for this kind of file")
        return Gate(graph, name, base, candidate, limit, "unverified", reason)
    verdict = "pass" if candidate <= base * limit else "fail"
    return Gate(graph, name, base, candidate, limit, verdict)


def bundle_masks(sessions: Sequence[Session], contract: Contract) -> dict[str, NDArray[np.bool_]]:
    """What a bundle answers to the verification prompts, at the decoder's resolution.

    Returns:
        "picture, prompt" -> (height, width) bool: the chosen mask without the padding.
    """
    encoder, decoder = sessions
    masks = {}
    for name, scene in verification_scenes(contract.image_size).items():
        size = prompts.picture_size(scene.picture)
        inputs = prompts.encoder_inputs(scene.picture, contract)
        embeddings = encoder.run(inputs)["image_embeddings"]
        slots = 6 if contract.dynamic else contract.points
        height, width = prompts.resized_size(*size, contract.image_size // 4)
        largest = max(scene.masks, key=np.count_nonzero)
        for label, prompt in object_prompts(largest, slots).items():
            outputs = decoder.run(prompts.decoder_inputs(prompt, embeddings, size, contract))
            iou = outputs["iou_predictions"]
            index = 0 if contract.dynamic else prompts.chosen_index(prompt, iou)
            logits = outputs["low_res_masks"][0, index, :height, :width]
            masks[f"{name}, {label}"] = np.asarray(logits > 0)
    return masks


def judge_masks(base: Masks, candidate: Masks, limit: float) -> Gate:
    """The worst intersection over union of any pair of masks."""
    if not base or set(base) != set(candidate):
        reason = "the masks of the base are of other prompts, or there are none"
        return Gate("bundle", MASK_IOU, None, None, limit, "unverified", reason)
    worst, where = min((mask_iou(candidate[name], base[name]), name) for name in base)
    return Gate("bundle", MASK_IOU, 1.0, worst, limit, "pass" if worst >= limit else "fail", where)


def pack_masks(masks: Masks) -> dict[str, Any]:
    """For JSON: one bit a pixel, compressed."""
    return {
        name: {
            "shape": list(mask.shape),
            "bits": base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode(),
        }
        for name, mask in masks.items()
    }


def unpack_masks(packed: Mapping[str, Any]) -> dict[str, NDArray[np.bool_]]:
    """Read what `pack_masks` made.

    Raises:
        BudgetError: it did not.
    """
    try:
        return {name: _unpack(item) for name, item in packed.items()}
    except (KeyError, TypeError, AttributeError, ValueError, zlib.error) as exc:
        raise BudgetError(f"the baseline's masks are damaged: {exc}") from exc


def _unpack(item: Mapping[str, Any]) -> NDArray[np.bool_]:
    height, width = item["shape"]
    raw = np.frombuffer(zlib.decompress(base64.b64decode(item["bits"])), np.uint8)
    mask: NDArray[np.bool_] = np.unpackbits(raw, count=height * width).reshape(height, width) > 0
    return mask
