"""Greedy non-max suppression, exact: of boxes that overlap too much the one of highest score stays.

The indices are those of the plain loop over inter / (area + area - inter) > iou in the boxes' own arithmetic; the ways
of computing them here differ in speed alone.
"""

import torch
from torch import Tensor

from anchors.sweep import sweep

_MANY = 1500  # boxes, from which on looking for the near ones first can pay
_SAMPLE = 400  # boxes, enough to see whether they crowd


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices (K,) int64 of the boxes (N, 4) xyxy that stay, by descending score, the lower index first among equals.

    A box falls where its IoU with one that stays and has a higher score exceeds `iou`; empty boxes do neither. Scores
    (N,) are compared in the type of the boxes. Raises ValueError for NaN and for lengths that differ.
    """
    return _nms(*_checked(boxes, scores), iou)


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """`nms` among the boxes of each label (N,) alone, all that stay in one order."""
    boxes, scores = _checked(boxes, scores)
    if len(labels) != len(boxes):
        raise ValueError(f"{len(labels)} labels for {len(boxes)} boxes")
    groups = labels.argsort(stable=True).split(labels.unique(return_counts=True)[1].tolist())
    kept = [g if len(g) == 1 else g[_nms(boxes[g], scores[g], iou)] for g in groups]
    index = torch.cat([labels.new_zeros(0, dtype=torch.int64), *kept]).sort().values
    return index[scores[index].argsort(stable=True, descending=True)]


def _checked(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 4) and (N,)")
    if boxes.isnan().any() or scores.isnan().any():
        raise ValueError("boxes or scores hold NaN: remove those rows before suppression")
    if boxes.dtype not in (torch.float32, torch.float64):
        boxes = boxes.float()
    return boxes.detach(), scores.detach().to(boxes.dtype)


def _nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    from torchvision.ops import nms as compare_all

    if boxes.device.type != "cpu" or len(boxes) < _MANY:
        return compare_all(boxes, scores, iou)
    step = len(boxes) // _SAMPLE
    if len(compare_all(boxes[::step], scores[::step], iou)) < 0.8 * _SAMPLE:
        return compare_all(boxes, scores, iou)
    order = scores.argsort(stable=True, descending=True)
    alive = sweep(boxes[order].numpy(), iou)
    return compare_all(boxes, scores, iou) if alive is None else order[torch.from_numpy(alive)]
