"""Greedy non-max suppression, exact: of boxes that overlap too much the one of highest score stays.

The indices are those of the plain loop over inter / (area + area - inter) > iou in the boxes' own arithmetic; the ways
of computing them here differ in speed alone:

- the compiled operator compares all pairs;
- many small groups, as of classes, are compared together in numpy;
- among many boxes of which most survive, `sweep` looks for the pairs that can overlap enough. From IoU > t follows that
  the extents of two boxes along either axis differ by less than a factor 1 / t, and their centres by less than
  (1 - t) / (2 t) times the smaller extent. So boxes are sorted by level of width, row of height, and centre; each then
  meets short runs of its own level and of the next.
"""

import math

import numpy as np
import torch
from torch import Tensor

_MANY = 1200  # boxes, from which on looking for the near ones first can pay
_FEW = 64  # boxes of a label: for fewer a call of their own costs more than comparing them in numpy
_SAMPLE = 200  # boxes, enough to see whether they crowd
_LEAST_IOU = 0.2  # below it the bounds say little
_SLACK = 1e-4  # of reaches and levels: far above what rounding does to an IoU
_MOST = 0.03  # of all pairs: above it comparing them all in compiled code is as quick


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
    place, groups = np.arange(len(few)), counts[counts <= _FEW].cpu().numpy()
    alive = _survivors(boxes[few].cpu().numpy(), *_expand(place, place + 1, groups.cumsum().repeat(groups)), iou)
    kept = [few[torch.from_numpy(alive).to(few.device)]]
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
    columns, left, group = (x.cpu().numpy() for x in (boxes.T, scores, groups))
    index = np.arange(len(left))
    taken: list[tuple[int, float]] = []
    while len(left) and left.max() >= least and len(taken) != limit:
        best = left.argmax()
        taken.append((index[best], left[best]))
        overlap = np.nan_to_num(_overlaps(columns[:, best], columns))
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
    alive = sweep(boxes[order].numpy(), iou)
    return compare_all(boxes, scores, iou) if alive is None else order[torch.from_numpy(alive)]


def _survivors(boxes: np.ndarray, a: np.ndarray, b: np.ndarray, iou: float) -> np.ndarray:
    """Survivors (N,) bool of boxes by rank when no pairs but (a, b) can overlap."""
    columns = boxes.T.copy()
    hit = _overlaps(columns[:, a], columns[:, b]).astype(np.float64) > iou
    better, worse = np.minimum(a, b)[hit], np.maximum(a, b)[hit]
    order = better.argsort(kind="stable")
    alive = [True] * len(boxes)
    for i, j in zip(better[order].tolist(), worse[order].tolist(), strict=True):
        if alive[i]:
            alive[j] = False
    return np.array(alive, dtype=bool)


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes as columns (4, P) and (4, P), NaN for two empty ones, in the arithmetic of the compiled operator."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    inter = width.clip(0) * height.clip(0)
    with np.errstate(invalid="ignore"):
        return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _expand(who: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each `who` with each place in start..stop-1."""
    lengths = stop - start
    ends = lengths.cumsum()
    return who.repeat(lengths), np.arange(lengths.sum()) + (stop - ends).repeat(lengths)


def sweep(boxes: np.ndarray, iou: float) -> np.ndarray | None:
    """Survivors (N,) bool of float boxes (N, 4) by descending score; None where comparing all pairs is as quick."""
    size = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    solid = np.flatnonzero((size > 0).all(1))  # an empty box overlaps nothing
    areas = size[solid].prod(1)
    if not _LEAST_IOU <= iou < 1 or not len(solid) or areas.min() < 1e-30 or areas.max() > 1e30:
        return None  # the last two: where float areas lose their digits
    found = _near(boxes[solid].astype(np.float64), size[solid], iou)
    return None if found is None else _survivors(boxes, solid[found[0]], solid[found[1]], iou)


def _near(boxes: np.ndarray, size: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs (P,), (P,) of boxes, among them all that overlap by more than iou; None where they are too many."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = ((1 - iou) / (2 * iou) + _SLACK) * size
    level = np.floor(np.log(size[:, 0]) / (max(-np.log(iou), 0.2) + _SLACK)).astype(np.int64)
    order, who, start, stop = _runs(center - center.min(0), reach, level - level.min())
    if (stop - start).sum() > _MOST * len(boxes) ** 2:
        return None
    a, place = _expand(who, start, stop)
    b = order[place]
    # boxes of one level meet twice, once from each side
    near = ((a < b) | (level[a] < level[b])) & (np.abs(center[a, 1] - center[b, 1]) <= reach[a, 1])
    return a[near], b[near]


def _runs(center: np.ndarray, reach: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, ...]:
    """The boxes' order, and runs in it: box `who` has to meet order[start:stop].

    Rounding cannot lose a box: a key is a monotone function of x within its row, and a row of y.
    """
    x, y = center.T
    tallest = np.zeros(level.max() + 2)
    np.maximum.at(tallest, level, reach[:, 1])
    height = 2.01 * np.maximum(tallest, np.append(0, tallest[:-1]))  # a reach then touches two rows at most
    height[height == 0] = 1
    stack, span = np.ceil(y.max() / height.min()) + 3, x.max() * 1.01 + 1

    def keys(level: np.ndarray, row: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (level * stack + row) * span + x.clip(0, span)

    own = keys(level, np.floor(y / height[level]), x)
    order = own.argsort(kind="stable")
    own = own[order]
    runs = []
    for goal in (level, level + 1):
        low, high = (np.floor((y + side * reach[:, 1]) / height[goal]) for side in (-1, 1))
        for row, who in ((low, np.arange(len(x))), (high, np.flatnonzero(low != high))):
            left = np.searchsorted(own, keys(goal, row, x - reach[:, 0])[who], "left")
            right = np.searchsorted(own, keys(goal, row, x + reach[:, 0])[who], "right")
            runs.append((who, left, right))
    who, start, stop = map(np.concatenate, zip(*runs, strict=True))
    return order, who, start, stop
