"""The mask of an object from those of its detections in several views, one window at a time.

Axes: N masks of all views.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.masks import RleMasks, Window

Members = Sequence[np.ndarray]  # of each object, the indices of its masks
Rectangle = Sequence[int]  # xyxy in pixels


def voted(masks: RleMasks, members: Members, weights: np.ndarray) -> RleMasks:
    """The mask of each object: the pixels that masks with at least half of the weight of its members have.

    Args:
        masks: N, of one image.
        members: M objects.
        weights: (N,), the scores of the masks.
    """

    def vote(rows: np.ndarray) -> Window:
        windows = [masks.window(i) for i in rows.tolist()]
        around = _around(windows)
        votes = np.zeros((around[3] - around[1], around[2] - around[0]))
        for window, weight in zip(windows, weights[rows].tolist(), strict=True):
            _part((*around[:2], votes), _bounds(window))[:] += weight * window[2]
        return around[0], around[1], votes > (0.5 - 1e-9) * weights[rows].sum()

    return RleMasks.of_windows(masks.size, map(vote, members))


def united(masks: RleMasks, members: Members, places: np.ndarray, coarse: np.ndarray) -> RleMasks:
    """The mask of each object: the union of its masks, where coarse ones count only outside the places of the others.

    Args:
        masks: N, of one image.
        members: M objects.
        places: (N, 4) xyxy, the part of the image in which each mask was seen.
        coarse: (N,) bool, seen in less detail.
    """

    def unite(rows: np.ndarray) -> Window:
        windows = [masks.window(i) for i in rows.tolist()]
        left, top, right, bottom = _around(windows)
        union = left, top, np.zeros((bottom - top, right - left), bool)
        rough = coarse[rows].tolist()
        for window in (one for one, is_rough in zip(windows, rough, strict=True) if is_rough):
            _part(union, _bounds(window))[:] |= window[2]
        for place in places[rows][~coarse[rows]].tolist():
            _part(union, place)[:] = False
        for window in (one for one, is_rough in zip(windows, rough, strict=True) if not is_rough):
            _part(union, _bounds(window))[:] |= window[2]
        return union

    return RleMasks.of_windows(masks.size, map(unite, members))


def agreement(a: Window, b: Window, zone: Rectangle) -> float:
    """The IoU of two masks within a zone of the image; 0 where neither has a pixel."""
    common = [max(one) for one in zip(zone[:2], _bounds(a)[:2], _bounds(b)[:2], strict=True)]
    common += [min(one) for one in zip(zone[2:], _bounds(a)[2:], _bounds(b)[2:], strict=True)]
    both = int(np.count_nonzero(_part(a, common) & _part(b, common)))
    either = int(np.count_nonzero(_part(a, zone)) + np.count_nonzero(_part(b, zone))) - both
    return both / max(either, 1)


def _bounds(window: Window) -> tuple[int, int, int, int]:
    left, top, mask = window
    return left, top, left + mask.shape[1], top + mask.shape[0]


def _part(window: Window, rectangle: Rectangle) -> np.ndarray:
    """The view of what a window shows of a rectangle."""
    left, top, values = window
    x1, y1, x2, y2 = rectangle
    return values[max(y1 - top, 0) : max(y2 - top, 0), max(x1 - left, 0) : max(x2 - left, 0)]


def _around(windows: Sequence[Window]) -> tuple[int, int, int, int]:
    """The rectangle xyxy around the masks that are not empty."""
    edges = [_bounds(window) for window in windows if window[2].size] or [(0, 0, 0, 0)]
    left, top, right, bottom = zip(*edges, strict=True)
    return min(left), min(top), max(right), max(bottom)
