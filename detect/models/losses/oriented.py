"""Losses of oriented boxes (N, 5), one value for each box, not reduced."""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.oriented import prob_iou_aligned
from detect.registry import register

SQUARE = 4.0  # a box whose side w is longer than h by a share of 1 / SQUARE or more is no square at all


@register("loss.oriented", "prob_iou")
def prob_iou_loss(predicted_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """One minus the probabilistic IoU (Llerena et al., 2021) of predicted and target boxes (N, 5): (N,)."""
    return 1 - prob_iou_aligned(predicted_boxes, target_boxes)


def angle_loss(double: Tensor, target_boxes: Tensor) -> Tensor:
    """Squared distance (N,) of the vectors (N, 2) of double angles from those of canonical target boxes (N, 5).

    A square is itself again after a quarter turn, which turns the vector of its double angle round: either vector is
    right. The more a box differs from a square, the more the vector of the other angle costs.
    """
    angle, sides = 2 * target_boxes[:, 4], target_boxes[:, 2:4].clamp_min(1e-6)
    target = torch.stack((angle.cos(), angle.sin()), -1)
    elongation = (SQUARE * (sides[:, 0] / sides[:, 1] - 1)).clamp(0, 1)
    right, turned = ((double - way * target).square().sum(-1) for way in (1, -1))
    return torch.minimum(right, turned + 4 * elongation)
