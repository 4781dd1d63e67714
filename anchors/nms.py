"""Exact greedy non-maximum suppression (NMS), per-class NMS and Soft-NMS.

The result equals that of the plain loop over inter / (area + area - inter) > iou, computed in the dtype of the boxes.
Few boxes are compared by torchvision's compiled operator, many by `survivors`, and many small groups, such as classes,
are processed together in numpy.
"""

import functools
from collections.abc import Callable
from functools import reduce
from operator import mul

import numpy as np
import torch
from torch import Tensor

_MANY = 2000  # boxes; from this number on, it pays not to compare all pairs
_EXACT = (torch.float32, torch.float64)
_FEW = 64  # boxes of one label; up to this number a separate call costs more than comparing them in numpy
_ROUNDS = 8  # vectorized rounds of `decide` before it processes the remaining pairs one by one


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Suppress every box whose IoU with a kept box of higher score exceeds a threshold.

    Empty boxes neither suppress others nor are suppressed.

    Args:
        boxes: (N, 2d), the lower corner and then the upper corner; xyxy for d = 2.
        scores: (N,), compared in the dtype of the boxes.
        iou: IoU threshold.

    Returns:
        Indices (K,) int64 of the kept boxes, by descending score; the lower index comes first among equal scores.

    Raises:
        ValueError: boxes or scores contain NaN, or their lengths differ.
    """
    if scores.numel() < _MANY and scores.dtype is boxes.dtype and boxes.dtype in _EXACT:
        try:  # for few boxes, even the time of checks before the call matters
            kept = operator()(boxes, scores, iou)
        except RuntimeError:  # shapes do not match; `_checked` reports it below
            kept = None
        if kept is not None and boxes.equal(boxes) and scores.equal(scores):
            return kept
    boxes, scores = _checked(boxes, scores)
    if boxes.shape[1] == 2:  # 1-D boxes become 2-D boxes of height 1, with the same IoU
        boxes = torch.stack((boxes[:, 0], torch.zeros_like(scores), boxes[:, 1], torch.ones_like(scores)), 1)
    if boxes.shape[1] != 4:
        return _one_by_one(boxes, scores, iou)
    if len(boxes) < _MANY or not boxes.is_cpu:
        return operator()(boxes, scores, iou)
    from anchors.large_nms import survivors  # imported late: that module imports this one

    order = (-scores.numpy(force=True)).argsort(kind="stable")
    found = survivors(boxes.numpy(force=True).T.take(order, axis=1), iou)
    return operator()(boxes, scores, iou) if found is None else torch.from_numpy(order[found])


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Apply `nms` separately to the boxes of each label.

    Args:
        boxes: (N, 2d), as in `nms`.
        scores: (N,).
        labels: (N,); boxes of different labels do not suppress each other.
        iou: IoU threshold.

    Returns:
        Indices (K,) int64 of the kept boxes of all labels, by descending score.

    Raises:
        ValueError: boxes or scores contain NaN, or lengths differ.
    """
    boxes, scores = _checked(boxes, scores)
    if len(labels) != len(boxes):
        raise ValueError(f"{len(labels)} labels for {len(boxes)} boxes")
    box, score, label = (x.numpy(force=True) for x in (boxes, scores, labels))
    ranking = (-score).argsort(kind="stable")
    box, label = box[ranking], label[ranking]
    order = label.argsort(kind="stable")  # ranks, grouped by label
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
    overlap: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply Soft-NMS with the Gaussian penalty, which lowers the scores of overlapping boxes.

    The box of the highest score is selected repeatedly; the scores of the remaining boxes are multiplied by
    exp(-iou^2 / sigma), where iou is that with the selected box.

    Args:
        boxes: (N, 2d), as in `nms`.
        scores: (N,).
        labels: (N,); if given, a box only lowers the scores of boxes with its own label.
        sigma: width of the Gaussian penalty, above 0.
        least: minimum score; boxes below it are dropped.
        limit: maximum number of boxes. Default: unlimited.
        overlap: IoU (N, N) of what the boxes enclose, such as oriented boxes. Default: that of the boxes.

    Returns:
        Indices (K,) int64 and lowered scores (K,), by descending score.

    Raises:
        ValueError: `sigma` is not above 0, boxes or scores contain NaN, or their lengths differ.

    Reference:
        Bodla et al., Soft-NMS, 2017.
    """
    boxes, scores = _checked(boxes, scores)
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma}: it must be above 0")
    groups = torch.zeros(len(boxes)) if labels is None else labels
    columns, left, group = (x.numpy(force=True) for x in (boxes.T, scores, groups))
    known = None if overlap is None else overlap.numpy(force=True)
    index = np.arange(len(left))
    taken: list[tuple[int, float]] = []
    while len(left) and left.max() >= least and len(taken) != limit:
        best = left.argmax()
        taken.append((index[best], left[best]))
        like = overlaps(columns[:, best], columns) if known is None else known[index[best], index]
        left = left * np.where(group == group[best], np.exp(-(np.nan_to_num(like) ** 2) / sigma), 1).astype(left.dtype)
        stay = (left >= least) & (index != index[best])
        columns, left, group, index = columns[:, stay], left[stay], group[stay], index[stay]
    order = torch.tensor([i for i, _ in taken], dtype=torch.int64, device=boxes.device)
    return order, boxes.new_tensor([score for _, score in taken])


@functools.cache
def operator() -> Callable[[Tensor, Tensor, float], Tensor]:
    """Return torchvision's compiled NMS: (boxes (N, 4), scores (N,), iou) -> kept indices by descending score."""
    import torchvision  # noqa: F401  (registers the operator)

    return torch.ops.torchvision.nms.default


def _checked(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes and scores in the floating-point dtype of the boxes. Raises ValueError as `nms` does."""
    if boxes.dtype not in _EXACT:
        boxes = boxes.float()
    if scores.dtype != boxes.dtype:
        scores = scores.to(boxes.dtype)
    if scores.ndim != 1 or boxes.ndim != 2 or len(boxes) != len(scores) or boxes.shape[1] % 2 or not boxes.shape[1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 2d) and (N,)")
    if not (boxes.equal(boxes) and scores.equal(scores)):  # the fastest NaN check: only NaN differs from itself
        raise ValueError("boxes or scores hold NaN: remove those rows before suppression")
    return boxes, scores


def _one_by_one(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Apply `nms` to boxes of any d by the plain loop: each kept box suppresses the boxes it overlaps."""
    columns, left = boxes.numpy(force=True).T, (-scores.numpy(force=True)).argsort(kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        struck = overlaps(columns[:, best], columns.take(left, axis=1)).astype(np.float64) > iou
        left = left[~struck]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def _small_groups(boxes: np.ndarray, order: np.ndarray, counts: np.ndarray, iou: float) -> np.ndarray:
    """Return the kept part of `order` (M,), the ranks of consecutive groups whose sizes are `counts`."""
    # For each box, the number of lower-scored boxes of the same group.
    after = counts.cumsum().repeat(counts) - np.arange(1, len(order) + 1)
    better = np.arange(len(order)).repeat(after)
    worse = better + 1 + np.arange(len(better)) - (after.cumsum() - after).repeat(after)
    columns = boxes.T.take(order, axis=1)
    overlap = overlaps(columns.take(better, axis=1), columns.take(worse, axis=1))
    hit = np.flatnonzero(overlap.astype(np.float64) > iou)
    kept: np.ndarray = order[decide(better[hit], worse[hit], len(order))]
    return kept


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU (P,) of pairs of boxes, in their dtype, as the operator does; NaN for two empty ones.

    Args:
        a: boxes as columns (2d, P).
        b: the other box of each pair, (2d, P).
    """
    d = len(b) // 2
    inter = reduce(mul, [(np.minimum(a[d + i], b[d + i]) - np.maximum(a[i], b[i])).clip(0) for i in range(d)])
    with np.errstate(invalid="ignore", over="ignore"):
        first, second = (reduce(mul, [box[d + i] - box[i] for i in range(d)]) for box in (a, b))
        iou: np.ndarray = inter / (first + second - inter)
    return iou


def decide(better: np.ndarray, worse: np.ndarray, count: int) -> np.ndarray:
    """Return a mask (count,) of the boxes that greedy NMS keeps, given all pairs of boxes that overlap too much.

    Args:
        better: rank (P,) of the higher-scored box of each pair, lower than that of the other.
        worse: rank (P,) of the lower-scored box of each pair.
        count: number of boxes.
    """
    alive = np.ones(count, dtype=bool)
    for _ in range(
        _ROUNDS
    ):  # a box that is worse in no pair is kept and suppresses its partners; this settles most pairs
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
        if alive[i]:  # every box better than i is already decided
            alive[j] = False
    return alive
