"""Non-max suppression by pairs, for many boxes of which most survive: only boxes that can overlap enough are compared.

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
    return None if found is None else _greedy(boxes, solid[found[0]], solid[found[1]], iou)


def grouped(boxes: np.ndarray, counts: np.ndarray, iou: float) -> np.ndarray:
    """Survivors (N,) bool of boxes (N, 4) that stand in groups of `counts`, each by descending score.

    All pairs of each group are compared: for many small groups.
    """
    place = np.arange(len(boxes))
    return _greedy(boxes, *_expand(place, place + 1, counts.cumsum().repeat(counts)), iou)


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


def _expand(who: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each `who` with each place in start..stop-1."""
    lengths = stop - start
    ends = lengths.cumsum()
    return who.repeat(lengths), np.arange(lengths.sum()) + (stop - ends).repeat(lengths)


def _greedy(boxes: np.ndarray, a: np.ndarray, b: np.ndarray, iou: float) -> np.ndarray:
    """Survivors (N,) bool of boxes by rank when no pairs but (a, b) can overlap."""
    columns = boxes.T.copy()
    hit = overlaps(columns[:, a], columns[:, b]).astype(np.float64) > iou
    better, worse = np.minimum(a, b)[hit], np.maximum(a, b)[hit]
    order = better.argsort(kind="stable")
    alive = [True] * len(boxes)
    for i, j in zip(better[order].tolist(), worse[order].tolist(), strict=True):
        if alive[i]:
            alive[j] = False
    return np.array(alive, dtype=bool)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes as columns (4, P) and (4, P), NaN for two empty ones, in the arithmetic of the compiled operator."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    inter = width.clip(0) * height.clip(0)
    with np.errstate(invalid="ignore"):
        return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
