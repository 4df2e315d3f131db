"""Gates without noise: figures of files and masks -> passed, failed or unverified."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mobilesam_export.benchmark.baseline import Masks
from mobilesam_export.benchmark.figures import Figures
from mobilesam_export.metrics import mask_iou
from mobilesam_export.verification.status import Status

# Largest allowed value, as a multiple of the base's. Where any change is a change of kind,
# no increase is allowed; figures that any edit moves a little have 5 %, MACs (which cost time) 1 %.
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
MASK_IOU = "mask_iou"  # its limit is a lower one
DEFAULT_MASK_IOU = 0.99


@dataclass(frozen=True)
class Gate:
    """One figure of the candidate compared with the base's.

    Attributes:
        component: name of a graph, or "bundle".
        figure: a key of LIMITS, or "mask_iou".
        base, candidate: the figures; for mask_iou base is 1.
        limit: the largest ratio candidate / base; for mask_iou the least value.
        status: unverified if a figure is not known.
        reason: why it is unverified, or which mask is the worst.
    """

    component: str
    figure: str
    base: float | None
    candidate: float | None
    limit: float
    status: Status
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        status, reason = values.pop("status"), values.pop("reason")
        return {**values, "verdict": status.verdict, "reason": reason}


def judge_figures(
    base: Mapping[str, Figures], candidate: Mapping[str, Figures], limits: Mapping[str, float]
) -> list[Gate]:
    """Judge every figure that has a limit against the base's, of graphs that both have."""
    return [
        _judge(graph, name, base[graph].get(name), candidate[graph].get(name), limit)
        for graph in base
        if graph in candidate
        for name, limit in limits.items()
        if name in LIMITS
    ]


def _judge(graph: str, name: str, base: int | None, candidate: int | None, limit: float) -> Gate:
    if base is None or candidate is None:
        reasons = {
            "macs": "some op's count is not known, as with dynamic sizes",
            "peak_bytes": "some tensor's size is not known",
        }
        reason = reasons.get(name, "no rules of a delegate for this kind of file")
        return Gate(graph, name, base, candidate, limit, Status.UNVERIFIED, reason)
    status = Status.PASSED if candidate <= base * limit else Status.FAILED
    return Gate(graph, name, base, candidate, limit, status)


def judge_masks(base: Masks, candidate: Masks, limit: float) -> Gate:
    """The worst intersection over union of any pair of masks."""
    if not base or set(base) != set(candidate):
        reason = "the masks of the base are of other prompts, or there are none"
        return Gate("bundle", MASK_IOU, None, None, limit, Status.UNVERIFIED, reason)
    worst, worst_prompt = min((mask_iou(candidate[name], base[name]), name) for name in base)
    status = Status.PASSED if worst >= limit else Status.FAILED
    return Gate("bundle", MASK_IOU, 1.0, worst, limit, status, worst_prompt)
