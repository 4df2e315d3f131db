"""What everything mode asks, and which answers it keeps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The parameters and defaults of `SamAutomaticMaskGenerator`, by its names.

    Attributes:
        points_per_side: of the grid, along each side of the image.
        pred_iou_thresh: least IoU that the model predicts of a mask, 0..1.
        stability_score_thresh: least stability, 0..1; see `masks.stability`.
        box_nms_thresh: IoU of two masks' boxes above which only the surer mask is kept, 0..1.
        hierarchical: whether a coarse part of the grid is clicked first, and of the rest only what
            lies beside a point that found something, and in no sure mask; not of SAM, whose answer
            is that of all points.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_nms_thresh: float = 0.7
    hierarchical: bool = False
