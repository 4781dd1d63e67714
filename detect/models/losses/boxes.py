"""Losses of boxes and their codes; each gives one value for each box, not reduced."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, smooth_l1_loss

from anchors.boxes import iou_aligned
from detect.registry import register


def distribution_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (Li et al., 2020, eq. 6): cross-entropy to the two bins around each distance.

    logits (P, 4, bins), distances (P, 4) in bins -> (P,), the mean over the four sides.
    """
    bins = logits.shape[-1]
    distances = distances.clamp(0, bins - 1 - 1e-3)
    lower = distances.long()
    share = (distances - lower).to(logits.dtype)
    logp = log_softmax(logits, -1)
    low = logp.gather(-1, lower[..., None]).squeeze(-1)
    high = logp.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -torch.lerp(low, high, share).mean(-1)


@register("loss.coordinates", "l1")
def l1(predicted_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Mean absolute difference of the coordinates of boxes (N, 4): (N,)."""
    return (predicted_boxes - target_boxes).abs().mean(-1)


@register("loss.coordinates", "l2")
def l2(predicted_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Mean squared difference of the coordinates of boxes (N, 4): (N,)."""
    return (predicted_boxes - target_boxes).square().mean(-1)


@register("loss.coordinates", "smooth_l1")
def smooth_l1(predicted_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Squared below 0.1, linear above (Girshick, 2015, equation 3), for boxes (N, 4) in shares of the side: (N,)."""
    return smooth_l1_loss(predicted_boxes, target_boxes, reduction="none", beta=0.1).mean(-1)


def iou_loss(predicted_boxes: Tensor, target_boxes: Tensor, kind: str) -> Tensor:
    """One minus an overlap of predicted and target boxes (N, 4) xyxy: (N,). See `anchors.boxes.iou_aligned`."""
    return 1 - iou_aligned(predicted_boxes, target_boxes, kind)


for _kind in ("iou", "giou", "diou", "ciou"):
    register("loss.box", _kind)(partial(iou_loss, kind=_kind))
