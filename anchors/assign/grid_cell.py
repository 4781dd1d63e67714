"""Assignment by grid cell and anchor shape (Redmon et al. 2016 to 2018, YOLO v1 to v3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.assign.targets import (
    IGNORE,
    NONE,
    Assignment,
    PaddedTargets,
    best,
    ignore_crowd,
    objects,
    pairs_of,
    settle,
)
from anchors.boxes import iou, iou_aligned, xyxy_to_cxcywh
from anchors.grid import Priors

_SIDE = 4  # strides; what a prior without a box counts as: the base of RetinaNet's anchors (Lin et al. 2017)


@dataclass(frozen=True)
class GridCell:
    """An object is answered for by one prior: of the cells that hold its centre, the anchor of most similar shape.

    Similar is the IoU of the two when centred on one another; a prior without a box counts as a square of 4 strides,
    so that the level suits the object's size. Where two objects want one prior, the more similar has it and the other
    none; among equals the earlier. Weights are 1. A cell holds its left and upper border. Priors left over whose
    predicted box overlaps any object by more than `ignore` are ignored (0.5 in YOLO v3; 1 ignores none, as in v1).
    """

    ignore: float = 1.0

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, priors: Priors, targets: PaddedTargets) -> Assignment:
        """scores are not looked at; boxes (B, A, 4) xyxy px only to ignore."""
        found = objects(targets)
        center, half = xyxy_to_cxcywh(found.boxes)[:, None, :2], priors.strides / 2
        x, y = (center[..., i] - priors.centers[:, i] for i in (0, 1))
        pairs = pairs_of((x >= -half) & (x < half) & (y >= -half) & (y < half), found)
        shapes = (_shapes(priors) / 2)[pairs.key % len(priors.strides)]
        sizes = (xyxy_to_cxcywh(found.boxes)[:, 2:] / 2)[pairs.object]
        likeness = iou_aligned(torch.cat((-sizes, sizes), -1), torch.cat((-shapes, shapes), -1))
        chosen = best(pairs, likeness, len(found.slot), 1)
        index, _ = settle(pairs, chosen, likeness, found, boxes.shape[:2])
        weight = (index >= 0).to(boxes.dtype)
        if self.ignore < 1:
            close = (iou(targets.boxes, boxes) > self.ignore) & (targets.valid & ~targets.crowd)[..., None]
            index = torch.where((index == NONE) & close.any(1), IGNORE, index)
        return Assignment(ignore_crowd(index, priors, targets), weight)


def _shapes(priors: Priors) -> Tensor:
    """Width and height (A, 2) of each prior."""
    if priors.boxes is None:
        return (_SIDE * priors.strides)[:, None].expand(-1, 2)
    return xyxy_to_cxcywh(priors.boxes)[:, 2:]
