"""SimOTA (Ge et al. 2021, YOLOX): the cheapest priors of an object, as many as the predictions suggest.

And its variant of PicoDet (Yu et al. 2021).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.assign.targets import (
    Assignment,
    Objects,
    PaddedTargets,
    Pairs,
    best,
    centered,
    ignore_crowd,
    objects,
    paired,
    pairs_of,
    settle,
)
from anchors.boxes import iou_aligned, xyxy_to_cxcywh
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
        pairs = pairs_of(self._near(priors, found), found)
        score, overlap = paired(pairs, found, scores, boxes)
        cost = self._cost(scores, score, boxes, overlap, pairs, found)
        top = best(pairs, overlap, count, self.pool)
        wanted = overlap.new_zeros(count).index_add(0, pairs.object[top], overlap[top]).long().clamp_min(1)
        chosen = best(pairs, -cost, count, wanted)
        index, won = settle(pairs, chosen, -cost, found, boxes.shape[:2])
        chosen = chosen[won]
        weight = overlap.new_zeros(index.numel()).index_copy(0, pairs.key[chosen], overlap[chosen])
        return Assignment(ignore_crowd(index, priors, targets), weight.view(index.shape))

    def _near(self, priors: Priors, found: Objects) -> Tensor:
        """Which priors (G, A) are candidates of which objects."""
        center, reach = xyxy_to_cxcywh(found.boxes)[:, None, :2], self.radius * priors.strides
        x, y = ((priors.centers[:, i] - center[..., i]).abs() <= reach for i in (0, 1))
        return x & y

    def _cost(
        self, scores: Tensor, score: Tensor, boxes: Tensor, overlap: Tensor, pairs: Pairs, found: Objects
    ) -> Tensor:
        """The cost (P,) of each pair, whose own score and IoU are `score` and `overlap` (P,)."""
        return _class_cost(scores, score, pairs.key) - self.iou_cost * overlap.clamp_min(1e-8).log()


@dataclass(frozen=True)
class VarifocalSimOTA(SimOTA):
    """SimOTA of PicoDet: the cost of a pair is the varifocal loss of its scores plus `iou_cost` * (1 - GIoU).

    The loss (Zhang et al. 2021) is that of all classes, with the pair's IoU as the target of the object's class. A
    candidate's centre must also lie in the object, as distances from the centre cannot be negative; the object counts
    as at least one cell of the finest stride wide and high.
    """

    iou_cost: float = 6.0

    def _near(self, priors: Priors, found: Objects) -> Tensor:
        center, size = xyxy_to_cxcywh(found.boxes).chunk(2, -1)
        half = size.clamp_min(priors.strides.min()) / 2
        return super()._near(priors, found) & centered(priors.centers, torch.cat((center - half, center + half), -1))

    def _cost(
        self, scores: Tensor, score: Tensor, boxes: Tensor, overlap: Tensor, pairs: Pairs, found: Objects
    ) -> Tensor:
        p = scores.to(overlap.dtype).clamp(_EDGE, 1 - _EDGE)
        score = score.clamp(_EDGE, 1 - _EDGE)
        empty = 0.75 * (-p.square() * torch.log1p(-p)).sum(-1)  # the loss where every target is zero
        own = -overlap * (overlap * score.log() + (1 - overlap) * torch.log1p(-score))
        change = torch.where(overlap > 0, own + 0.75 * score.square() * torch.log1p(-score), 0.0)
        predicted = boxes.reshape(-1, 4).index_select(0, pairs.key)
        giou = iou_aligned(found.boxes.index_select(0, pairs.object), predicted, "giou")
        return empty.reshape(-1).index_select(0, pairs.key) + change + self.iou_cost * (1 - giou)


def _class_cost(scores: Tensor, score: Tensor, key: Tensor) -> Tensor:
    """Cross-entropy (P,) over all classes, of which only the object's own differs between pairs of one prior."""
    score = score.clamp(_EDGE, 1 - _EDGE)
    others = -torch.log1p(-scores.to(score.dtype).clamp(_EDGE, 1 - _EDGE)).sum(-1)
    return others.reshape(-1).index_select(0, key) + torch.log1p(-score) - score.log()
