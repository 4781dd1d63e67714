"""Exact greedy NMS for many boxes without comparing all pairs.

Boxes are processed by descending score, one block at a time: the boxes kept from a block suppress the lower-scored
boxes they overlap. Where many boxes are suppressed, as in a crowd, few remain after a few blocks. Where few are
suppressed, `_sweep` finds all overlapping pairs of the remaining boxes at once. It only tests pairs that can overlap
enough: IoU > t implies that the extents of two boxes along either axis differ by less than a factor of 1 / t, and their
centres by less than (1 - t) / (2 t) times the smaller extent. The result stays exact, because these bounds only select
the pairs whose IoU is computed.

Boxes are arrays of columns (4, N), x1 y1 x2 y2, in their own dtype and by descending score. N boxes, P pairs.
"""

import math

import numpy as np
import torch

from anchors.nms import decide, operator, overlaps

_BLOCK = 32  # boxes per block; small, so that it costs little where few boxes overlap
_FEW = 500  # boxes; up to this number the compiled operator is as fast
_THINNED = 1 / 16  # share of the other boxes that a block suppresses; below it, one sweep is faster than more blocks
_LEAST_IOU = 0.2  # below this IoU threshold the bounds exclude too few pairs
_SLACK = 1e-4  # tolerance of reaches and levels; far larger than the rounding error of an IoU
_MOST = 0.05  # share of all pairs; above it the compiled operator is as fast
_BITE = 1 << 15  # pairs compared at a time, so that their values fit in the CPU cache

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # box `who` is compared with positions start..stop-1 of an order


@np.errstate(invalid="ignore", over="ignore")
def survivors(columns: np.ndarray, iou: float) -> np.ndarray | None:
    """Return the indices of the boxes that NMS keeps, or None where this method does not apply.

    Args:
        columns: boxes (4, N), x1 y1 x2 y2, by descending score.
        iou: IoU threshold.

    Returns:
        Indices (K,), ascending; None if the threshold is too low for the bounds to help or not below 1, if all boxes
        are empty, or if the areas would lose precision.
    """
    extent = columns[2:] - columns[:2]
    solid = np.flatnonzero((extent > 0).all(axis=0))  # an empty box overlaps no other box
    if not _LEAST_IOU <= iou < 1 or not len(solid):
        return None
    if len(solid) < columns.shape[1]:
        extent = extent.take(solid, axis=1)
    areas = extent[0] * extent[1]
    if areas.min() < 1e-30 or areas.max() > 1e30 or extent.min() < 1e-10 * np.abs(columns).max(initial=0):
        return None
    alive = np.ones(columns.shape[1], dtype=bool)
    alive[solid] = False
    alive[solid[_thin_out(columns.take(solid, axis=1), iou)]] = True
    return np.flatnonzero(alive)


def _thin_out(columns: np.ndarray, iou: float) -> np.ndarray:
    """Return the indices (K,) of the boxes that NMS keeps; no box may be empty."""
    kept: list[np.ndarray] = []
    rest = np.arange(columns.shape[1])
    while len(rest) > _FEW:
        best = _compare_all(columns[:, :_BLOCK], iou)
        kept.append(rest[best])
        best, columns, rest = columns[:, best], columns[:, _BLOCK:], rest[_BLOCK:]
        stay = np.flatnonzero(~_struck(best, columns, iou))
        thinned = len(stay) < (1 - _THINNED) * len(rest)
        columns, rest = columns.take(stay, axis=1), rest.take(stay)
        if not thinned:
            found = _sweep(columns, iou)
            return np.concatenate([*kept, rest[_compare_all(columns, iou) if found is None else found]])
    return np.concatenate([*kept, rest[_compare_all(columns, iou)]])


def _struck(best: np.ndarray, columns: np.ndarray, iou: float) -> np.ndarray:
    """Return a mask (N,) of the boxes whose IoU with any of `best` (4, A) exceeds `iou`."""
    x1, y1, x2, y2 = best[:, :, None]
    struck = np.zeros(columns.shape[1], dtype=bool)
    tile = _BITE // best.shape[1]
    for start in range(0, len(struck), tile):
        some = columns[:, start : start + tile]
        inter = np.minimum(x2, some[2])
        inter -= np.maximum(x1, some[0])
        inter.clip(0, out=inter)
        height = np.minimum(y2, some[3])
        height -= np.maximum(y1, some[1])
        inter *= height  # at most 0 for boxes that do not overlap
        union = _areas(best)[:, None] + _areas(some)
        union -= inter
        inter /= union
        struck[start : start + tile] = (inter > _below(iou, inter.dtype)).any(axis=0)
    return struck


def _areas(columns: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return areas


def _below(iou: float, dtype: np.dtype) -> np.floating:
    """Return the largest value of `dtype` not above `iou`; a value of that dtype exceeds both of them or neither."""
    limit: np.floating = dtype.type(iou)  # NumPy 2 compares it with a Python number after rounding that as well
    return limit if float(limit) <= iou else np.nextafter(limit, dtype.type(-np.inf))


def _compare_all(columns: np.ndarray, iou: float) -> np.ndarray:
    boxes = torch.from_numpy(columns).T
    return operator()(boxes, torch.arange(len(boxes), 0, -1, dtype=boxes.dtype), iou).numpy()


def _overlapping(columns: np.ndarray, y: np.ndarray, reach: np.ndarray, runs: Runs, iou: float) -> np.ndarray:
    """Return the pairs (2, P) within `runs` whose IoU exceeds `iou`.

    Args:
        columns: boxes (4, N), in the order that the runs refer to.
        y: centre (N,) of each box along y.
        reach: largest distance (N,) along y of a centre that the first box of a pair can overlap enough.
        runs: candidate pairs.
        iou: IoU threshold.
    """
    who, start, lengths = runs[0], runs[1], runs[2] - runs[1]
    some = np.flatnonzero(lengths > 0)
    who, start, lengths = who.take(some), start.take(some), lengths.take(some)
    ends = lengths.cumsum()
    shift = start + lengths - ends
    cuts = ends.searchsorted(np.arange(_BITE, lengths.sum() + 1, _BITE), "right")
    first = done = 0
    pairs, limit = [np.zeros((2, 0), dtype=np.int64)], _below(iou, columns.dtype)
    for last in [*cuts, len(who)]:
        if last == first:
            continue  # a single run may exceed _BITE
        one, many = who[first:last], lengths[first:last]
        b = np.arange(done, ends[last - 1]) + shift[first:last].repeat(many)
        apart = y.take(b)
        apart -= y.take(one).repeat(many)
        near = np.flatnonzero(np.abs(apart, out=apart) <= reach.take(one).repeat(many))
        a, b = one.repeat(many).take(near), b.take(near)
        hit = np.flatnonzero(overlaps(columns.take(a, axis=1), columns.take(b, axis=1)) > limit)
        pairs.append(np.stack((a.take(hit), b.take(hit))))
        first, done = last, ends[last - 1]
    return np.concatenate(pairs, axis=1)


def _sweep(columns: np.ndarray, iou: float) -> np.ndarray | None:
    """Return the indices (K,) of the boxes that NMS keeps; None if there are too many candidate pairs.

    Boxes are sorted by size level (logarithm of width and height), row and x. Each box is compared with its own level
    and four of the eight neighbouring levels; in each of them with the one or two rows within its reach, and in each
    row with a run of consecutive boxes.
    """
    low, high = columns[:2].astype(np.float64), columns[2:].astype(np.float64)
    reach = ((1 - iou) / (2 * iou) + _SLACK) * (high - low)
    center = (low + high) / 2
    center -= center.min(axis=1, keepdims=True)
    step = max(-math.log(iou), math.log(2)) + _SLACK
    size = np.log(high - low)
    across, up = np.floor((size - size.min(axis=1, keepdims=True)) / step).astype(np.int64)
    stride = up.max() + 2  # one empty level of height separates the widths, so that neighbours never wrap around
    order, runs = _runs(center, reach, across * stride + up, stride)
    if (runs[2] - runs[1]).sum() > _MOST * len(order) ** 2:
        return None
    pairs = _overlapping(columns.take(order, axis=1), center[1].take(order), reach[1].take(order), runs, iou)
    pairs = order.take(pairs)
    return np.flatnonzero(decide(pairs.min(axis=0), pairs.max(axis=0), len(order)))


def _runs(center: np.ndarray, reach: np.ndarray, level: np.ndarray, stride: int) -> tuple[np.ndarray, Runs]:
    """Return the sorted order of the boxes, and runs in that order that hold every candidate pair exactly once.

    Rounding cannot lose a pair: a key is a monotonic function of x within a row, and the row is one of y.
    """
    filled = np.bincount(level, minlength=level.max() + stride + 2) > 0
    tallest = np.zeros(len(filled))
    np.maximum.at(tallest, level, reach[1])
    height = np.where(filled, 2.01 * tallest, 1)  # height of a row in each level
    rows = np.where(filled, np.ceil(center[1].max() / height) + 3, 0)
    base, span = rows.cumsum() - rows + 1, center[0].max() * 1.01 + 1

    def keys(level: np.ndarray, row: np.ndarray, x: np.ndarray) -> np.ndarray:
        placed: np.ndarray = (base[level] + row) * span + x.clip(0, span)
        return placed

    own = keys(level, np.floor(center[1] / height[level]), center[0])
    order = own.argsort()
    own, level = own[order], level[order]
    (x, y), (reach_x, reach_y) = center[:, order], reach[:, order]
    left, right, row = x - reach_x, x + reach_x, np.floor(y / height[level])
    places = np.arange(len(own))
    runs = [(places, places + 1, own.searchsorted(keys(level, row, right), "right"))]

    def look(who: np.ndarray, level: np.ndarray, row: np.ndarray) -> None:
        start = own.searchsorted(keys(level, row, left[who]), "left")
        runs.append((who, start, own.searchsorted(keys(level, row, right[who]), "right")))

    for beside in (0, 1, stride - 1, stride, stride + 1):
        who = np.flatnonzero(filled[level + beside])
        goal = level[who] + beside
        near = np.minimum(reach_y[who], tallest[goal])
        low, high = (np.floor((y[who] + side * near) / height[goal]) for side in (-1, 1))
        if beside:
            look(who, goal, low)
        else:
            low = row  # within its own level, its own row and the row before are already covered
        more = np.flatnonzero(high > low)
        look(who[more], goal[more], high[more])
    who, start, stop = map(np.concatenate, zip(*runs, strict=True))
    return order, (who, start, stop)
