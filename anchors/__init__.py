"""Boxes without any network: geometry, suppression, priors, coding, clustering and assignment.

Boxes are float tensors (N, 2d), minima then maxima, d = 2 unless said: (x1, y1, x2, y2).
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
    "clip",
    "cxcywh_to_xyxy",
    "iou",
    "iou_aligned",
    "nms",
    "pad_targets",
    "priors",
    "soft_nms",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
