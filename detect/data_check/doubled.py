"""Objects that are annotated twice: boxes of one class at one place."""

from __future__ import annotations

import numpy as np
import torch

from anchors.boxes import iou_aligned

DOUBLE = 0.95  # IoU above which two boxes of a class are one object
NEAR = 0.06  # of a side: boxes whose IoU is above DOUBLE differ by less than 0.053 in each edge and side
PAIRS = 1 << 18  # boxes that are compared at once: some megabytes


def doubled(corners: np.ndarray, labels: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return for each of N boxes an earlier one of its class at its place, else -1; crowd regions are not `plain`.

    Boxes are compared along the one of their left and top edges, widths and heights by which the fewest come near one
    another, in blocks of PAIRS at most: the memory for an image of 10,000 boxes is that for one of a few hundred.
    """
    found = np.full(len(labels), -1)
    for label in np.unique(labels[plain]):
        rows = np.flatnonzero(plain & (labels == label))
        boxes_, first, copies_ = np.unique(corners[rows], axis=0, return_index=True, return_inverse=True)
        sides = boxes_[:, 2:] - boxes_[:, :2]
        keys, reach_ = np.hstack([boxes_[:, :2], sides]), np.hstack([sides, sides]) * NEAR
        order = np.argsort(keys, axis=0, kind="stable")
        windows = [_window(keys[order[:, axis], axis], reach_[order[:, axis], axis]) for axis in range(4)]
        axis = int(np.argmin([(stop - start).sum() for start, stop in windows]))
        ranked = order[:, axis]
        least = np.empty(len(ranked), np.int64)
        least[ranked] = _first(boxes_[ranked], rows[first[ranked]], *windows[axis])
        copies_ = copies_.reshape(-1)  # NumPy 2.0 gives it another axis
        found[rows] = np.where(least[copies_] < rows, least[copies_], -1)
    return found


def _window(keys: np.ndarray, reach_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of N keys in ascending order where those begin and end (N,) that lie within its reach."""
    return np.searchsorted(keys, keys - reach_, "left"), np.searchsorted(keys, keys + reach_, "right")


def _first(corners: np.ndarray, rows: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """For each of N boxes the least of `rows` (N,) of those from `start` to `stop` at its place, itself among them."""
    none_yet = rows.max() + 1
    least, counts, boxes_ = np.full(len(rows), none_yet), stop - start, torch.from_numpy(corners)
    ends, n = np.cumsum(counts), 0
    while n < len(rows):
        before = ends[n] - counts[n]
        block = slice(n, max(n + 1, int(np.searchsorted(ends, before + PAIRS, "right"))))
        begins = ends[block] - counts[block] - before  # of each box's pairs in the block
        one = np.repeat(np.arange(len(rows))[block], counts[block])
        other = np.arange(len(one)) + np.repeat(start[block] - begins, counts[block])
        same = iou_aligned(boxes_[one], boxes_[other]).numpy() > DOUBLE
        least[block] = np.minimum.reduceat(np.where(same, rows[other], none_yet), begins)
        n = block.stop
    return least
