"""Assignment by the IoU of anchor boxes and objects (Ren et al. 2015, Faster R-CNN; Lin et al. 2017, RetinaNet)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.assign.targets import IGNORE, NONE, Assignment, PaddedTargets, ignore_crowd, objects, pairs_of, settle
from anchors.boxes import iou
from anchors.grid import Priors


@dataclass(frozen=True)
class MaxIoU:
    """Assign each prior to the object of highest IoU if that is at least `positive`; below `negative`: background.

    In between it is ignored. With `lowest` the priors with the highest IoU of an object are positive however low it is,
    though assigned to the object with which they themselves have the highest IoU. Of equal objects the earlier one
    wins. Weights are 1.
    """

    positive: float = 0.5
    negative: float = 0.4
    lowest: bool = True

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, priors: Priors, targets: PaddedTargets) -> Assignment:
        """Looks at the shape of scores (B, A, C) alone. Raises ValueError where the priors have no boxes."""
        if priors.boxes is None:
            raise ValueError("MaxIoU compares anchor boxes, and these priors have none: make them with sizes")
        found, shape = objects(targets), scores.shape[:2]
        overlap = iou(found.boxes, priors.boxes)
        pairs = pairs_of(overlap > 0, found)
        value = overlap[overlap > 0]
        owner, won = settle(pairs, slice(None), value, found, shape)
        top = value.new_zeros(shape.numel()).index_copy(0, pairs.key[won], value[won])
        positive = top >= self.positive
        if self.lowest:
            greatest = value.new_zeros(len(found.slot)).scatter_reduce(0, pairs.object, value, "amax")
            positive[pairs.key[value == greatest[pairs.object]]] = True
        rest = torch.where(top < self.negative, NONE, IGNORE)
        index = torch.where(positive, owner.view(-1), rest).view(shape)
        return Assignment(ignore_crowd(index, priors, targets), (index >= 0).to(boxes.dtype))
