"""The matching and the arrays of the COCO protocol for an overlap of one's own, where `coco_engine` has none.

Axes: D detections and G objects of an image and class; T IoU thresholds, R recall levels, C classes, S sizes, M limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from detect.evaluation.coco_engine import GroundTruth, Predictions
from detect.evaluation.protocol import COCO, Protocol

RECALLS = np.linspace(0, 1, 101)


class ImageMatches(NamedTuple):
    """The detections of an image and class, by falling score.

    image: its number; scores (D,); right, ignored (S, T, D) bool; objects (S,) how many count.
    """

    image: int
    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


def matched_overlaps(
    classes: int,
    objects: GroundTruth,
    detections: Predictions,
    areas: np.ndarray,
    overlap: Callable[[np.ndarray, np.ndarray], np.ndarray],
    protocol: Protocol = COCO,
) -> list[list[ImageMatches]]:
    """Match the detections of each image and class by another overlap than pycocotools'.

    Args:
        classes: number of classes.
        objects: the annotated objects.
        detections: the detections.
        areas: their areas (N,).
        overlap: (D,) rows of detections, (G,) rows of objects, of one image -> (D, G) overlaps, 0 to 1.
        protocol: IoU thresholds, sizes and limits.

    Returns:
        For each class, the images that have objects or detections of it, in the order of their numbers.
    """
    found: list[list[ImageMatches]] = [[] for _ in range(classes)]
    image, label = detections.rows[:, 0].astype(np.int64), detections.rows[:, 6].astype(np.int64)
    for c in range(classes):
        own, theirs = np.flatnonzero(objects.label == c), np.flatnonzero(label == c)
        for i in np.union1d(objects.image[own], image[theirs]).tolist():
            rows = theirs[image[theirs] == i]
            rows = rows[np.argsort(-detections.rows[rows, 5], kind="stable")][: protocol.limits[-1]]
            some = own[objects.image[own] == i]
            scores = detections.rows[rows, 5]
            found[c].append(_match(i, overlap(rows, some), scores, areas[rows], objects.rows(some), protocol))
    return found


def measure_matches(matches: list[list[ImageMatches]], protocol: Protocol = COCO) -> tuple[np.ndarray, np.ndarray]:
    """The precision and recall arrays of pycocotools, of the matches of each class.

    Returns:
        precision (T, R, C, S, M) and recall (T, C, S, M), -1 where undefined.
    """
    shape = len(matches), len(protocol.ranges), len(protocol.limits)
    precision = -np.ones((len(protocol.ious), len(RECALLS), *shape))
    recall = -np.ones((len(protocol.ious), *shape))
    for c, parts in enumerate(matches):
        for s in range(len(protocol.ranges) if parts else 0):
            for m, limit in enumerate(protocol.limits):
                _accumulate(parts, s, limit, precision[:, :, c, s, m], recall[:, c, s, m])
    return precision, recall


def _match(
    image: int,
    overlaps: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    objects: GroundTruth,
    protocol: Protocol,
) -> ImageMatches:
    """Match the detections of an image and class, the best first, each with the free object that it overlaps most.

    Among equal overlaps the last object wins, and objects that count go before those that are ignored.
    """
    ranges, thresholds = np.array(protocol.ranges), np.array(protocol.ious)
    low, high = ranges[:, :1], ranges[:, 1:]
    skipped = objects.crowd | (objects.areas < low) | (objects.areas > high)  # (S, G)
    free = np.ones((len(ranges), len(thresholds), len(objects.areas)), bool)
    shape = len(ranges), len(thresholds), len(scores)
    right, ignored = np.zeros(shape, bool), np.broadcast_to(((areas < low) | (areas > high))[:, None], shape).copy()
    count = len(objects.areas)
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
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
    return ImageMatches(image, scores, right, ignored, (~skipped).sum(1))


def _accumulate(parts: list[ImageMatches], s: int, limit: int, precision: np.ndarray, recall: np.ndarray) -> None:
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
