"""Boxes without any network: geometry, suppression, priors, coding, clustering and assignment.

Boxes are float tensors (N, 2d), minima then maxima, d = 2 unless said: (x1, y1, x2, y2). Oriented boxes are (N, 5):
see `anchors.oriented`.
"""

from anchors.assign import Assignment, GridCell, MaxIoU, PaddedTargets, SimOTA, TaskAligned, pad_targets
from anchors.boxes import (
    area,
    clip,
    cxcywh_to_xyxy,
    iou,
    iou_aligned,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from anchors.grid import Priors, priors
from anchors.nms import batched_nms, nms, soft_nms
from anchors.oriented import (
    canonical,
    corners_to_oriented,
    oriented_bounds,
    oriented_iou,
    oriented_iou_aligned,
    oriented_to_corners,
    prob_iou_aligned,
)
from anchors.oriented_nms import oriented_nms

__all__ = [
    "Assignment",
    "GridCell",
    "MaxIoU",
    "PaddedTargets",
    "Priors",
    "SimOTA",
    "TaskAligned",
    "area",
    "batched_nms",
    "canonical",
    "clip",
    "corners_to_oriented",
    "cxcywh_to_xyxy",
    "iou",
    "iou_aligned",
    "nms",
    "oriented_bounds",
    "oriented_iou",
    "oriented_iou_aligned",
    "oriented_nms",
    "oriented_to_corners",
    "pad_targets",
    "priors",
    "prob_iou_aligned",
    "soft_nms",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
