"""SimOTA (Ge et al. 2021, YOLOX): the cheapest priors of an object, as many as the predictions suggest."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.assign.targets import Assignment, PaddedTargets, best, ignore_crowd, objects, paired, pairs_of, settle
from anchors.boxes import xyxy_to_cxcywh
from anchors.grid import Priors

_EDGE = 1e-6  # of a score: logarithms stay finite


@dataclass(frozen=True)
class SimOTA:
    """Candidates are the priors whose centre lies within `radius` strides of the object's centre, along both axes.

    The cost of a pair is the binary cross-entropy of all class scores against the object's class, plus
    `iou_cost` * -log IoU. An object gets as many of its cheapest candidates as the sum of its `pool` highest IoUs says,
    at least one; a prior wanted by several objects goes to the cheapest. The weight is the IoU.
    """

    radius: float = 2.5
    pool: int = 10
    iou_cost: float = 3.0

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, priors: Priors, targets: PaddedTargets) -> Assignment:
        """scores (B, A, C) in 0..1, boxes (B, A, 4) xyxy px, the targets of the same images."""
        found = objects(targets)
        count = len(found.slot)
        center, reach = xyxy_to_cxcywh(found.boxes)[:, None, :2], self.radius * priors.strides
        x, y = ((priors.centers[:, i] - center[..., i]).abs() <= reach for i in (0, 1))
        pairs = pairs_of(x & y, found)
        score, overlap = paired(pairs, found, scores, boxes)
        cost = _class_cost(scores, score, pairs.key) - self.iou_cost * overlap.clamp_min(1e-8).log()
        top = best(pairs, overlap, count, self.pool)
        wanted = overlap.new_zeros(count).index_add(0, pairs.object[top], overlap[top]).long().clamp_min(1)
        chosen = best(pairs, -cost, count, wanted)
        index, won = settle(pairs, chosen, -cost, found, boxes.shape[:2])
        chosen = chosen[won]
        weight = overlap.new_zeros(index.numel()).index_copy(0, pairs.key[chosen], overlap[chosen])
        return Assignment(ignore_crowd(index, priors, targets), weight.view(index.shape))


def _class_cost(scores: Tensor, score: Tensor, key: Tensor) -> Tensor:
    """Cross-entropy (P,) over all classes, of which only the object's own differs between pairs of one prior."""
    score = score.clamp(_EDGE, 1 - _EDGE)
    others = -torch.log1p(-scores.to(score.dtype).clamp(_EDGE, 1 - _EDGE)).sum(-1)
    return others.reshape(-1).index_select(0, key) + torch.log1p(-score) - score.log()
