"""Task-aligned assignment (Feng et al. 2021, TOOD): priors that classify and localize an object well answer for it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.assign.targets import (
    Assignment,
    PaddedTargets,
    best,
    centered,
    ignore_crowd,
    objects,
    paired,
    pairs_of,
    settle,
)
from anchors.boxes import iou_aligned
from anchors.grid import Priors


@dataclass(frozen=True)
class TaskAligned:
    """The topk priors of highest alignment score^alpha * iou^beta, among those whose centre lies in the object.

    An object narrower or lower than a cell of the finest stride counts as one cell wide or high there, so that none is
    too small to hold a centre. A prior wanted by several objects goes to the one of highest IoU. The weight is the
    alignment, scaled so that the greatest of an object equals its greatest IoU. A pair of zero alignment never matches.
    `inside` and `overlap` are what it knows of boxes; those of `anchors.assign.oriented` assign oriented ones.
    """

    topk: int = 10
    alpha: float = 1.0
    beta: float = 6.0
    inside: Callable[..., Tensor] = centered
    overlap: Callable[[Tensor, Tensor], Tensor] = iou_aligned

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, priors: Priors, targets: PaddedTargets) -> Assignment:
        """scores (B, A, C) in 0..1, boxes (B, A, 4) xyxy px, or (B, A, 5), the targets of the same images."""
        found = objects(targets)
        count = len(found.slot)
        pairs = pairs_of(self.inside(priors.centers, found.boxes, priors.strides.min()), found)
        score, overlap = paired(pairs, found, scores, boxes, self.overlap)
        alignment = score**self.alpha * overlap**self.beta
        chosen = best(pairs, alignment, count, self.topk)
        chosen = chosen[alignment[chosen] > 0]
        index, won = settle(pairs, chosen, overlap, found, boxes.shape[:2])
        owner, key, both = pairs.object[chosen[won]], pairs.key[chosen[won]], torch.stack((alignment, overlap))
        both = both[:, chosen[won]]
        # the greatest alignment and the greatest IoU, above zero, among the pairs of each pair's object
        greatest = both.new_zeros(2, count).scatter_reduce(1, owner.expand(2, -1), both, "amax")[:, owner]
        weight = overlap.new_zeros(index.numel()).index_copy(0, key, both[0] / greatest[0] * greatest[1])
        return Assignment(ignore_crowd(index, priors, targets, self.inside), weight.view(index.shape))
