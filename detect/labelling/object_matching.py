"""Which objects of an image before and after a correction are the same, and what became of each.

Axes: N objects before, M after.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

MOVED = 0.51  # pixels; programs that keep whole pixels round by half of one
OVERLAP = 0.5  # IoU from which two boxes may be one object
ALIKE = 0.98  # IoU of masks that are the same
SAME_CLASS = 0.1  # what a shared class is worth beside IoU


class Objects(NamedTuple):
    """Objects of one image: boxes (N, 4) x, y, w, h; names of classes; ids; COCO records."""

    boxes: np.ndarray
    names: list[str]
    ids: list[int]
    records: list[dict]


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (N, M) of boxes x, y, w, h."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = (high - low).clip(0).prod(2)
    both = first[:, 2:].prod(1)[:, None] + second[:, 2:].prod(1)[None] - shared
    return shared / np.maximum(both, 1e-12)


def pairs(before: Objects, after: Objects, ids_kept: bool = False) -> list[tuple[int, int]]:
    """The objects before and after that are the same, as pairs of their indices, by the first.

    Those of one class in one place come first, then those in one place; then, where `ids_kept`, those of one id that
    overlap at all; then those that overlap most, by an assignment that maximizes the sum of IoU, a little more for a
    shared class.
    """
    found = same(before, after)
    _add(found, _in_place(before, after))
    if ids_kept:
        every, place = iou(before.boxes, after.boxes), {number: j for j, number in enumerate(after.ids)}
        by_id = ((i, place[number]) for i, number in enumerate(before.ids) if number in place)
        _add(found, (pair for pair in by_id if every[pair] > 0))
    left = [i for i in range(len(before.ids)) if i not in found]
    right = [j for j in range(len(after.ids)) if j not in set(found.values())]
    overlap = iou(before.boxes[left], after.boxes[right])
    alike = np.array([[before.names[i] == after.names[j] for j in right] for i in left]).reshape(overlap.shape)
    worth = np.where(overlap >= OVERLAP, overlap + SAME_CLASS * alike, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    _add(found, ((left[i], right[j]) for i, j in zip(rows, columns, strict=True) if worth[i, j] > 0))
    return sorted(found.items())


def same(before: Objects, after: Objects) -> dict[int, int]:
    """The objects of one class whose boxes are equal but for rounding."""
    found = dict[int, int]()
    _add(found, ((i, j) for i, j in _in_place(before, after) if before.names[i] == after.names[j]))
    return found


def _in_place(before: Objects, after: Objects) -> list[tuple[int, int]]:
    """The pairs of objects whose boxes are equal but for rounding, the nearest first."""
    gaps = np.abs(_edges(before.boxes)[:, None] - _edges(after.boxes)[None]).max(2, initial=0)
    near = sorted((float(gaps[i, j]), int(i), int(j)) for i, j in np.argwhere(gaps <= MOVED))
    return [(i, j) for _, i, j in near]


def _add(found: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    """Add pairs of objects that are free yet."""
    taken = set(found.values())
    for i, j in more:
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)


def _edges(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def has_moved(before: dict, after: dict, size: tuple[int, int]) -> bool:
    """Whether the box, outline or keypoints of an object changed by more than rounding.

    Outlines and keypoints are compared where both records have them.
    """
    first, second = before.get("segmentation"), after.get("segmentation")
    drawn_alike = _rings_alike(first, second)  # boxes may differ: some programs cut them off at the edge of the image
    gap = _edges(np.array([before["bbox"]], np.float64)) - _edges(np.array([after["bbox"]], np.float64))
    if np.abs(gap).max() > MOVED and not drawn_alike:
        return True
    points = [np.reshape(one.get("keypoints") or [], (-1, 3)) for one in (before, after)]
    if len(points[0]) and len(points[1]):
        seen = (points[0][:, 2] > 0) | (points[1][:, 2] > 0)
        moved = np.abs(points[0][seen, :2] - points[1][seen, :2]).max(initial=0) > MOVED
        if moved or (points[0][:, 2] != points[1][:, 2]).any():
            return True
    return bool(first and second and not drawn_alike and _mask_iou(first, second, size) < ALIKE)


def _rings_alike(first: Any, second: Any) -> bool:
    """Whether two segmentations are the same polygons."""
    if not first or not second or isinstance(first, dict) or isinstance(second, dict):
        return bool(first) and first == second
    if [len(ring) for ring in first] != [len(ring) for ring in second]:
        return False
    return all(_alike(*(np.reshape(one, (-1, 2)) for one in both)) for both in zip(first, second, strict=True))


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two rings (V, 2) have the same points in their order, wherever they begin and whichever way they run."""
    for ring in (second, second[::-1]):
        start = int(np.abs(ring - first[0]).max(1).argmin())
        if np.abs(np.roll(ring, -start, axis=0) - first).max() <= MOVED:
            return True
    return False


def _mask_iou(first: Any, second: Any, size: tuple[int, int]) -> float:
    """IoU of two segmentations of COCO records, polygons or RLE, in an image of `size` (h, w)."""
    import hotcoco.mask  # late: few commands need it

    both = (first, second)
    masks = [one if isinstance(one, dict) else hotcoco.mask.merge(hotcoco.mask.frPyObjects(one, *size)) for one in both]
    return float(np.asarray(hotcoco.mask.iou(masks[:1], masks[1:], [0]))[0, 0])
