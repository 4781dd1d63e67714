"""Greedy non-max suppression, exact: of boxes that overlap too much the one of highest score stays.

The indices are those of the plain loop over inter / (area + area - inter) > iou in the boxes' own arithmetic; the ways
of computing them here differ in speed alone.
"""

import math

import numpy as np
import torch
from torch import Tensor

from anchors.sweep import grouped, overlaps, sweep

_MANY = 1200  # boxes, from which on looking for the near ones first can pay
_FEW = 64  # boxes of a label: for fewer a call of their own costs more than comparing them in numpy
_SAMPLE = 200  # boxes, enough to see whether they crowd


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
    order = scores.argsort(stable=True, descending=True)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.unique(return_counts=True)[1]
    few = order[(counts <= _FEW).repeat_interleave(counts)]
    kept = [few[_tensor(grouped(_array(boxes[few]), _array(counts[counts <= _FEW]), iou), few)]]
    kept += [g[_nms(boxes[g], scores[g], iou)] for g in order.split(counts.tolist()) if len(g) > _FEW]
    index = torch.cat(kept).sort().values
    return index[scores[index].argsort(stable=True, descending=True)]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    sigma: float = 0.5,
    least: float = 0.001,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS with the Gaussian penalty (Bodla et al. 2017): indices (K,) and lowered scores (K,), best first.

    Each box taken multiplies the scores left, of its label only where labels (N,) are given, by exp(-iou^2 / sigma).
    It ends at `limit` boxes, or where no score reaches `least`.
    """
    boxes, scores = _checked(boxes, scores)
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma}: it must be above 0")
    groups = torch.zeros(len(boxes)) if labels is None else labels
    columns, left, group = _array(boxes.T), _array(scores), _array(groups)
    index = np.arange(len(left))
    taken: list[tuple[int, float]] = []
    while len(left) and left.max() >= least and len(taken) != limit:
        best = left.argmax()
        taken.append((index[best], left[best]))
        overlap = np.nan_to_num(overlaps(columns[:, best], columns))
        left = left * np.where(group == group[best], np.exp(-(overlap**2) / sigma), 1).astype(left.dtype)
        stay = (left >= least) & (index != index[best])
        columns, left, group, index = columns[:, stay], left[stay], group[stay], index[stay]
    order = torch.tensor([i for i, _ in taken], dtype=torch.int64, device=boxes.device)
    return order, boxes.new_tensor([score for _, score in taken])


def _checked(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 4) and (N,)")
    doubtful = not math.isfinite(boxes.sum() + scores.sum())  # one quick look in place of two
    if doubtful and (boxes.isnan().any() or scores.isnan().any()):
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
    alive = sweep(_array(boxes[order]), iou)
    return compare_all(boxes, scores, iou) if alive is None else order[_tensor(alive, order)]


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()


def _tensor(x: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(x).to(like.device)
