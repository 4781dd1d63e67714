"""Non-max suppression of many boxes of which most survive: only boxes that can overlap enough are compared.

From IoU > t follows that the extents of two boxes along either axis differ by less than a factor 1 / t, and their
centres by less than (1 - t) / (2 t) times the smaller extent. So boxes are sorted by level of width, row of height, and
centre; each then meets short runs of its own level and of the next.
"""

import numpy as np

_LEAST_IOU = 0.2  # below it the bounds say little
_SLACK = 1e-4  # of reaches and levels: far above what rounding does to an IoU
_MOST = 0.03  # of all pairs: above it comparing them all in compiled code is as quick


def sweep(boxes: np.ndarray, iou: float) -> np.ndarray | None:
    """Survivors (N,) bool of float boxes (N, 4) by descending score; None where comparing all pairs is as quick."""
    size = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    solid = np.flatnonzero((size > 0).all(1))  # an empty box overlaps nothing
    areas = size[solid].prod(1)
    if not _LEAST_IOU <= iou < 1 or not len(solid) or areas.min() < 1e-30 or areas.max() > 1e30:
        return None  # the last two: where float areas lose their digits
    found = _near(boxes[solid].astype(np.float64), size[solid], iou)
    if found is None:
        return None
    alive = [True] * len(boxes)
    for better, worse in zip(*_overlapping(boxes, solid[found[0]], solid[found[1]], iou), strict=True):
        if alive[better]:
            alive[worse] = False
    return np.array(alive)


def _near(boxes: np.ndarray, size: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs (P,), (P,) of boxes, among them all that overlap by more than iou; None where they are too many."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = ((1 - iou) / (2 * iou) + _SLACK) * size
    level = np.floor(np.log(size[:, 0]) / (max(-np.log(iou), 0.2) + _SLACK)).astype(np.int64)
    order, who, start, stop = _runs(center - center.min(0), reach, level - level.min())
    lengths = stop - start
    ends = lengths.cumsum()
    if ends[-1] > _MOST * len(boxes) ** 2:
        return None
    a = np.repeat(who, lengths)
    b = order[np.arange(ends[-1]) + np.repeat(stop - ends, lengths)]
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


def _overlapping(boxes: np.ndarray, a: np.ndarray, b: np.ndarray, iou: float) -> tuple[list[int], list[int]]:
    """Of the pairs those with an IoU above the threshold, as (better, worse) by rank, ordered by the better."""
    x1, y1, x2, y2 = boxes.T.copy()
    areas = (x2 - x1) * (y2 - y1)
    width = np.minimum(x2[a], x2[b]) - np.maximum(x1[a], x1[b])
    height = np.minimum(y2[a], y2[b]) - np.maximum(y1[a], y1[b])
    inter = width.clip(0) * height.clip(0)
    hit = (inter / (areas[a] + areas[b] - inter)).astype(np.float64) > iou
    better, worse = np.minimum(a, b)[hit], np.maximum(a, b)[hit]
    order = better.argsort(kind="stable")
    return better[order].tolist(), worse[order].tolist()
