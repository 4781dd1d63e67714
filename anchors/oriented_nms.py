"""Exact greedy non-maximum suppression (NMS) of oriented boxes.

Boxes are processed by descending score, in blocks that grow: the boxes kept from a block suppress the others they
overlap. Only pairs that can overlap enough are clipped. What their IoU must exceed bounds how far apart their centres
may be, and bounds their common area from above by rectangles around it; the result stays exact.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anchors.nms import decide
from anchors.oriented import clipped_iou, columns

_BLOCK = 64  # boxes in the first block
_TILE = 32  # neighbouring boxes compared at a time with all that any of them may reach
_BITE = 1 << 18  # candidate pairs clipped at a time, which bounds the memory
_SLACK = 1e-9  # relative; far larger than the rounding error of a bound


class _Ranked(NamedTuple):
    """Boxes (N,) by descending score: `columns` (6, N), the group, centres and half extents of the upright bounds.

    `key` orders them by group and x.
    """

    columns: Tensor
    group: np.ndarray
    center: np.ndarray
    extent: np.ndarray
    key: np.ndarray


def oriented_nms(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou: float) -> Tensor:
    """Suppress every oriented box whose IoU with a kept box of its group and of higher score exceeds a threshold.

    Args:
        boxes: (N, 5), see `anchors.oriented`. Boxes without area neither suppress others nor are suppressed.
        scores: (N,).
        groups: (N,), such as labels; boxes of different groups do not suppress each other. None: one group.
        iou: IoU threshold, 0 to 1.

    Returns:
        Indices (K,) int64 of the kept boxes, by descending score; the lower index comes first among equal scores.

    Raises:
        ValueError: boxes or scores contain NaN or infinity, lengths differ, or the threshold is not in 0..1.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 5 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 5) and (N,)")
    if groups is not None and groups.shape != scores.shape:
        raise ValueError(f"{len(groups)} groups for {len(boxes)} boxes")
    if not 0 <= iou <= 1:
        raise ValueError(f"the IoU threshold is {iou}: it must be in 0..1")
    if not (boxes.isfinite().all() and scores.equal(scores)):
        raise ValueError("boxes or scores are not finite: remove those rows before suppression")
    order = scores.argsort(descending=True, stable=True).cpu()
    group = np.zeros(len(boxes), dtype=np.int64)
    if groups is not None:
        group = np.unique(groups.numpy(force=True), return_inverse=True)[1]
    ranked = _ranked(columns(boxes.cpu()[order]), group[order.numpy()])
    return order[torch.from_numpy(_survivors(ranked, iou))].to(boxes.device)


def _ranked(boxes: Tensor, group: np.ndarray) -> _Ranked:
    x, y, w, h, cos, sin = boxes.numpy()
    cos, sin = np.abs(cos), np.abs(sin)
    extent = np.stack((w * cos + h * sin, w * sin + h * cos)) / 2
    # Sums are rounded monotonically: a box within reach of another has a key within the reach of its key.
    key = x + group * (2 * np.ptp(x) + 1 if len(x) else 1)
    return _Ranked(boxes, group, np.stack((x, y)), extent * (1 + _SLACK), key)


def _survivors(ranked: _Ranked, iou: float) -> np.ndarray:
    """Return the ranks (K,) of the boxes that NMS keeps, ascending."""
    rest, block = np.arange(len(ranked.key)), _BLOCK
    kept = [rest[:0]]
    while len(rest):  # a crowd thins out after few small blocks; large ones compare what is left at once
        best, rest = rest[:block], rest[block:]
        better, worse = _overlapping(ranked, best, best, iou)
        once = better < worse
        best = best[decide(better[once], worse[once], len(best))]
        kept.append(best)
        if len(rest):
            alive = np.ones(len(rest), dtype=bool)
            alive[_overlapping(ranked, best, rest, iou)[1]] = False
            rest = rest[alive]
        block *= 4
    return np.concatenate(kept)


def _overlapping(ranked: _Ranked, some: np.ndarray, others: np.ndarray, iou: float) -> np.ndarray:
    """Return all pairs (2, P) of boxes whose IoU exceeds `iou`: positions in `some` and `others`, which are ranks."""
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for i, j in _near(ranked, some, others, max(0.0, 1 - 2 * iou)):
        a, b = some.take(i), others.take(j)
        apart = np.flatnonzero((ranked.group.take(a) == ranked.group.take(b)) & (a != b))
        one, other = (ranked.columns[:, torch.from_numpy(ranks.take(apart))] for ranks in (a, b))
        possible = _possible(one, other, iou).nonzero()[:, 0]
        hit = possible[clipped_iou(one[:, possible], other[:, possible]) > iou]
        pairs.append(np.stack((i, j)).take(apart.take(hit.numpy()), axis=1))
    return np.concatenate(pairs, axis=1)


def _near(ranked: _Ranked, some: np.ndarray, others: np.ndarray, beyond: float) -> Iterator[np.ndarray]:
    """Yield pairs (2, P) of boxes, as positions in `some` and `others`, of which one has its centre near the other.

    A line through the centre of a box halves it, and the share beyond a line falls at least linearly with the distance.
    So where the IoU exceeds t, the centres differ along an axis by at most the extent of one and `beyond`, which is
    1 - 2 t or 0, times that of the other.
    """
    some_order, others_order = ranked.key[some].argsort(), ranked.key[others].argsort()
    a, b = some[some_order], others[others_order]
    center_a, extent_a = ranked.center[:, a], ranked.extent[:, a]
    center_b, extent_b = ranked.center[:, b], beyond * ranked.extent[:, b]
    reach = extent_a[0] + extent_b[0].max(initial=0)
    key = ranked.key[b]
    start, stop = key.searchsorted(ranked.key[a] - reach), key.searchsorted(ranked.key[a] + reach, "right")
    found, count = [np.zeros((2, 0), dtype=np.int64)], 0
    for first in range(0, len(a), _TILE):
        left, right = start[first : first + _TILE].min(), stop[first : first + _TILE].max()
        close_x, close_y = (
            np.abs(center_a[axis, first : first + _TILE, None] - center_b[axis, left:right])
            <= extent_a[axis, first : first + _TILE, None] + extent_b[axis, left:right]
            for axis in (0, 1)
        )
        i, j = (close_x & close_y).nonzero()
        found.append(np.stack((some_order.take(i + first), others_order.take(j + left))))
        count += len(i)
        if count > _BITE:
            yield np.concatenate(found, axis=1)
            found, count = found[:1], 0
    yield np.concatenate(found, axis=1)


def _possible(a: Tensor, b: Tensor, iou: float) -> Tensor:
    """Return whether the IoU of boxes (6, P) can exceed `iou`: an upright rectangle in the frame of b holds both."""
    apart_x, apart_y = a[0] - b[0], a[1] - b[1]
    cos, sin = (a[4] * b[4] + a[5] * b[5]).abs(), (a[5] * b[4] - a[4] * b[5]).abs()
    most = torch.ones_like(cos)
    for along, across, x, y in ((2, 3, b[4], b[5]), (3, 2, b[5], -b[4])):
        apart = (apart_x * x + apart_y * y).abs()
        extent = a[along] * cos + a[across] * sin
        shared = ((b[along] + extent) / 2 - apart).minimum(b[along]).minimum(extent)
        most = most * shared.clamp_min(0)
    return most * (1 + _SLACK) > (a[2] * a[3] + b[2] * b[3]) * (iou / (1 + iou))
