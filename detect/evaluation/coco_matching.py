"""The matching and the arrays of the COCO protocol for an overlap of one's own, where `coco_engine` has none.

Axes: D detections and G objects of an image and class; T IoU thresholds, R recall levels, C classes, S sizes, M limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from detect.evaluation.coco_engine import GroundTruth, Predictions

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
RANGES = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])  # areas of all, small, medium, large
LIMITS = (1, 10, 100)


class _Matches(NamedTuple):
    """The detections of an image and class, by falling score.

    scores (D,); right, ignored (S, T, D) bool; objects (S,) how many count.
    """

    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


def measure_overlaps(
    classes: int,
    objects: GroundTruth,
    detections: Predictions,
    areas: np.ndarray,
    overlap: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The precision and recall arrays of pycocotools for another overlap than its own.

    Args:
        classes: number of classes.
        objects: the annotated objects.
        detections: the detections.
        areas: their areas (N,).
        overlap: (D,) rows of detections, (G,) rows of objects, of one image -> (D, G) overlaps, 0 to 1.

    Returns:
        precision (T, R, C, S, M) and recall (T, C, S, M), -1 where undefined.
    """
    shape = len(RANGES), len(LIMITS)
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), classes, *shape))
    recall = -np.ones((len(THRESHOLDS), classes, *shape))
    image, label = detections.rows[:, 0].astype(np.int64), detections.rows[:, 6].astype(np.int64)
    for c in range(classes):
        own, found = np.flatnonzero(objects.label == c), np.flatnonzero(label == c)
        parts = []
        for i in np.union1d(objects.image[own], image[found]).tolist():
            rows = found[image[found] == i]
            rows = rows[np.argsort(-detections.rows[rows, 5], kind="stable")][: LIMITS[-1]]
            some = own[objects.image[own] == i]
            parts.append(_match(overlap(rows, some), detections.rows[rows, 5], areas[rows], objects.rows(some)))
        if parts:
            for s in range(len(RANGES)):
                for m, limit in enumerate(LIMITS):
                    _accumulate(parts, s, limit, precision[:, :, c, s, m], recall[:, c, s, m])
    return precision, recall


def _match(overlaps: np.ndarray, scores: np.ndarray, areas: np.ndarray, objects: GroundTruth) -> _Matches:
    """Match the detections of an image and class, the best first, each with the free object that it overlaps most.

    Among equal overlaps the last object wins, and objects that count go before those that are ignored.
    """
    low, high = RANGES[:, :1], RANGES[:, 1:]
    skipped = objects.crowd | (objects.areas < low) | (objects.areas > high)  # (S, G)
    free = np.ones((len(RANGES), len(THRESHOLDS), len(objects.areas)), bool)
    shape = len(RANGES), len(THRESHOLDS), len(scores)
    right, ignored = np.zeros(shape, bool), np.broadcast_to(((areas < low) | (areas > high))[:, None], shape).copy()
    count = len(objects.areas)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for d in range(len(scores) if count else 0):
        rank = np.argsort(np.argsort(overlaps[d], kind="stable")) + count * ~skipped[:, None]  # (S, 1, G)
        rank = np.where(free & (overlaps[d] >= least), rank, -1)
        best = rank.argmax(-1)
        s, t = np.nonzero(rank.max(-1) >= 0)
        g = best[s, t]
        free[s, t, g] = objects.crowd[g]
        named = objects.ids[g] != 0  # to pycocotools a match with the object of id 0 is none
        right[s, t, d] = named & ~skipped[s, g]
        ignored[s, t, d] = skipped[s, g] | (~named & ignored[s, t, d])
    return _Matches(scores, right, ignored, (~skipped).sum(1))


def _accumulate(parts: list[_Matches], s: int, limit: int, precision: np.ndarray, recall: np.ndarray) -> None:
    """Fill precision (T, R) and recall (T,) of a class, size and limit from its images, in the order of their ids."""
    objects = sum(int(one.objects[s]) for one in parts)
    if not objects:
        return
    order = np.argsort(-np.concatenate([one.scores[:limit] for one in parts]), kind="stable")
    right, ignored = (
        np.concatenate([columns[s, :, :limit] for columns in kind], axis=1)[:, order]
        for kind in ([one.right for one in parts], [one.ignored for one in parts])
    )
    hits = (right & ~ignored).cumsum(1).astype(float)
    misses = (~right & ~ignored).cumsum(1).astype(float)
    recall[:] = hits[:, -1] / objects if len(order) else 0
    values = hits / (misses + hits + np.spacing(1))
    best = np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
    padded = np.hstack([best, np.zeros((len(best), 1))])
    for t, levels in enumerate(hits / objects):
        precision[t] = padded[t, np.searchsorted(levels, RECALLS, side="left")]
