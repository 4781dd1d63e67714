"""Greedy non-max suppression, exact: of boxes that overlap too much the one of highest score stays.

The indices are those of the plain loop over inter / (area + area - inter) > iou in the boxes' own arithmetic. A few
boxes are compared by the compiled operator, many by `greedy.survivors`, many small groups, as of classes, together.
"""

import functools
from collections.abc import Callable
from functools import reduce
from operator import mul

import numpy as np
import torch
from torch import Tensor

_MANY = 2000  # boxes, from which on not comparing all of them pays
_EXACT = (torch.float32, torch.float64)
_FEW = 64  # boxes of a label: for fewer a call of their own costs more than comparing them in numpy
_ROUNDS = 8


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices (K,) int64 of the boxes (N, 2d) that stay, by descending score, the lower index first among equals.

    A box falls where its IoU with one that stays and has a higher score exceeds `iou`; empty boxes do neither. Scores
    (N,) are compared in the type of the boxes. Raises ValueError for NaN and for lengths that differ.
    """
    if scores.numel() < _MANY and scores.dtype is boxes.dtype and boxes.dtype in _EXACT:
        try:  # among a few boxes every look that comes first counts
            kept = operator()(boxes, scores, iou)
        except RuntimeError:  # shapes that do not fit, as is said below
            kept = None
        if kept is not None and boxes.equal(boxes) and scores.equal(scores):
            return kept
    boxes, scores = _checked(boxes, scores)
    if boxes.shape[1] == 2:  # as high as one: the same numbers
        boxes = torch.stack((boxes[:, 0], torch.zeros_like(scores), boxes[:, 1], torch.ones_like(scores)), 1)
    if boxes.shape[1] != 4:
        return _one_by_one(boxes, scores, iou)
    if len(boxes) < _MANY or not boxes.is_cpu:
        return operator()(boxes, scores, iou)
    from anchors.greedy import survivors  # builds on what follows here

    order = (-scores.numpy(force=True)).argsort(kind="stable")
    found = survivors(boxes.numpy(force=True).T.take(order, axis=1), iou)
    return operator()(boxes, scores, iou) if found is None else torch.from_numpy(order[found])


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """`nms` among the boxes of each label (N,) alone, all that stay in one order."""
    boxes, scores = _checked(boxes, scores)
    if len(labels) != len(boxes):
        raise ValueError(f"{len(labels)} labels for {len(boxes)} boxes")
    box, score, label = (x.numpy(force=True) for x in (boxes, scores, labels))
    ranking = (-score).argsort(kind="stable")
    box, label = box[ranking], label[ranking]
    order = label.argsort(kind="stable")  # ranks, label by label
    label = label[order]
    ends = np.append(np.flatnonzero(label[1:] != label[:-1]) + 1, len(order))
    counts = np.diff(ends, prepend=0)
    few = counts <= _FEW
    kept = [_small_groups(box, order[few.repeat(counts)], counts[few], iou)]
    for end, count in zip(ends[~few].tolist(), counts[~few].tolist(), strict=True):
        group = order[end - count : end]
        kept.append(group[nms(torch.from_numpy(box[group]), -torch.arange(count, dtype=boxes.dtype), iou).numpy()])
    return torch.from_numpy(ranking[np.sort(np.concatenate(kept))]).to(boxes.device)


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
    columns, left, group = (x.numpy(force=True) for x in (boxes.T, scores, groups))
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


@functools.cache
def operator() -> Callable[[Tensor, Tensor, float], Tensor]:
    """The compiled comparison of all pairs: (boxes (N, 4), scores (N,), iou) -> indices that stay, best first."""
    import torchvision  # noqa: F401  (registers it)

    return torch.ops.torchvision.nms.default


def _checked(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the floating type of the boxes."""
    if boxes.dtype not in _EXACT:
        boxes = boxes.float()
    if scores.dtype != boxes.dtype:
        scores = scores.to(boxes.dtype)
    if scores.ndim != 1 or boxes.ndim != 2 or len(boxes) != len(scores) or boxes.shape[1] % 2 or not boxes.shape[1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 2d) and (N,)")
    if not (boxes.equal(boxes) and scores.equal(scores)):  # the quickest look: NaN alone differs from itself
        raise ValueError("boxes or scores hold NaN: remove those rows before suppression")
    return boxes, scores


def _one_by_one(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """`nms` of boxes of any d: each that stays strikes out what it overlaps."""
    columns, left = boxes.numpy(force=True).T, (-scores.numpy(force=True)).argsort(kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        struck = overlaps(columns[:, best], columns.take(left, axis=1)).astype(np.float64) > iou
        left = left[~struck]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def _small_groups(boxes: np.ndarray, order: np.ndarray, counts: np.ndarray, iou: float) -> np.ndarray:
    """What stays of `order` (M,), which holds one group of ranks after the other."""
    after = counts.cumsum().repeat(counts) - np.arange(1, len(order) + 1)  # boxes of the same group, worse than each
    better = np.arange(len(order)).repeat(after)
    worse = better + 1 + np.arange(len(better)) - (after.cumsum() - after).repeat(after)
    columns = boxes.T.take(order, axis=1)
    overlap = overlaps(columns.take(better, axis=1), columns.take(worse, axis=1))
    hit = np.flatnonzero(overlap.astype(np.float64) > iou)
    kept: np.ndarray = order[decide(better[hit], worse[hit], len(order))]
    return kept


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (P,) of boxes as columns (2d, P), NaN for two empty ones, in their own type, as the operator computes it."""
    d = len(b) // 2
    inter = reduce(mul, [(np.minimum(a[d + i], b[d + i]) - np.maximum(a[i], b[i])).clip(0) for i in range(d)])
    with np.errstate(invalid="ignore", over="ignore"):
        first, second = (reduce(mul, [box[d + i] - box[i] for i in range(d)]) for box in (a, b))
        iou: np.ndarray = inter / (first + second - inter)
    return iou


def decide(better: np.ndarray, worse: np.ndarray, count: int) -> np.ndarray:
    """Which (count,) bool of the boxes stay when these pairs (P,) of places overlap, the better at the lower place."""
    alive = np.ones(count, dtype=bool)
    for _ in range(_ROUNDS):  # who is worse than none stays, and those it overlaps fall: most pairs go at once
        if not len(better):
            return alive
        threatened = np.zeros(count, dtype=bool)
        threatened[worse] = True
        free = ~threatened.take(better)
        alive[worse.compress(free)] = False
        open_ = np.flatnonzero(~free & alive.take(better) & alive.take(worse))
        better, worse = better.take(open_), worse.take(open_)
    order = better.argsort(kind="stable")
    for i, j in zip(better[order].tolist(), worse[order].tolist(), strict=True):
        if alive[i]:  # all that is better than i was decided before
            alive[j] = False
    return alive
