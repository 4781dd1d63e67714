"""The engine that matches detections with objects, and the one rule of pycocotools it does not have.

Axes as in `protocol`: N rows, T IoU thresholds, R recall levels, C classes, S sizes, M limits.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import hotcoco
import numpy as np


class Truth(NamedTuple):
    """Objects: image and label (N,) int64 from 0, boxes (N, 4) float64 xywh, areas (N,), crowd (N,) bool, ids (N,)."""

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray

    def rows(self, at: np.ndarray) -> Truth:
        return Truth(*(column[at] for column in self))


def measure(images: int, classes: int, truth: Truth, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """precision (T, R, C, S, M) and recall (T, C, S, M) of detections (N, 7): image, x, y, w, h, score, label."""
    engine = _engine(images, classes, truth, found)
    engine.accumulate()
    arrays = engine.eval or {}
    precision, recall = arrays["precision"], arrays["recall"]
    for zero in np.flatnonzero(truth.ids == 0):
        _count_as_missed(precision, recall, images, truth, found, int(zero))
    return precision, recall


def _engine(images: int, classes: int, truth: Truth, found: np.ndarray) -> hotcoco.COCOeval:
    objects = hotcoco.COCO.from_arrays(
        [{"id": image} for image in range(images)],
        [{"id": label, "name": str(label)} for label in range(classes)],
        truth.image,
        truth.label,
        truth.boxes,
        area=truth.areas,
        iscrowd=truth.crowd,
    )
    engine = hotcoco.COCOeval(objects, objects.load_res(found), "bbox")
    engine.evaluate()
    return engine


def _count_as_missed(
    precision: np.ndarray, recall: np.ndarray, images: int, truth: Truth, found: np.ndarray, zero: int
) -> None:
    """Correct both arrays for the object in row `zero`, whose annotation id is 0.

    pycocotools marks a matched detection with the id of its object, and reads 0 as unmatched: the detection is then
    false, or ignored where its own area is out of range, but the object stays taken. The engine says the same when that
    pair is drawn apart: each, moved far away, meets nothing, and no other match changes, since neither of the two was
    free for another. Which detection it is differs between IoU thresholds and sizes, so each takes a pass of its own
    over the class. A crowd, or an object out of range, is ignored with what it matches, whatever its id.
    """
    label = truth.label[zero]
    beside = np.flatnonzero(truth.label == label)
    none = np.zeros(len(beside), np.int64)
    truth = truth.rows(beside)._replace(label=none, ids=none + 1)
    found, zero = found[found[:, 6] == label], int(np.searchsorted(beside, zero))
    found[:, 6] = 0
    far = 4 * max(float(np.abs(boxes).max(initial=1)) for boxes in (truth.boxes, found[:, 1:5]))
    truth_apart = truth._replace(boxes=truth.boxes.copy())
    truth_apart.boxes[zero, :2] += far
    for detection, cells in _matches(truth, found, zero).items():
        apart = found.copy()
        apart[detection, 1:3] -= far
        other_precision, other_recall = measure(images, 1, truth_apart, apart)
        for t, s in cells:
            precision[t, :, label, s] = other_precision[t, :, 0, s]
            recall[t, label, s] = other_recall[t, 0, s]


def _matches(truth: Truth, found: np.ndarray, zero: int) -> dict[int, list[tuple[int, int]]]:
    """Which detections of one class match object `zero` where it counts: row -> IoU thresholds and sizes."""
    image = truth.image[zero]
    beside, rows = np.flatnonzero(truth.image == image), np.flatnonzero(found[:, 0] == image)
    found = found[rows]
    found[:, 0] = 0
    engine = _engine(1, 1, truth.rows(beside)._replace(image=np.zeros(len(beside), np.int64)), found)
    name = int(np.searchsorted(beside, zero)) + 1  # the engine counts objects and detections from 1
    cells = defaultdict(list)
    for s, result in enumerate(engine.eval_imgs):
        if result is None or result["gtIgnore"][result["gtIds"].index(name)]:
            continue
        for t, matched in enumerate(result["dtMatches"]):
            if name in matched:
                cells[int(rows[result["dtIds"][matched.index(name)] - 1])].append((t, s))
    return cells
