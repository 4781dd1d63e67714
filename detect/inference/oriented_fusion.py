"""Oriented boxes of several views of one image: their mean, and which of those of overlapping tiles stays.

Sides of turned boxes cannot be put together as those of upright ones are. So the best box of an object stays as it is:
one that its view shows whole, before those that reach over the border of their tile. The pieces that tiles show of it
are struck with it: the part of a piece that the box covers counts, not their IoU, which is small.

Axes: N boxes of all views, T views, P pairs of boxes of different views that overlap.
"""

from __future__ import annotations

import numpy as np
import torch

from anchors.nms import decide
from anchors.oriented import canonical, oriented_iou, oriented_to_corners
from detect.inference.box_fusion import concatenate_views
from detect.types import Detections

SAME = 0.5  # the IoU from which two boxes are of one object, and the share of a piece that its object covers


def mean_oriented(boxes: np.ndarray, weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The weighted mean box of each group.

    Of the two forms of a box, whose sides w and h are swapped, the one counts whose angle is nearer to that of the box
    with the highest weight in its group. The mean angle is half that of the mean vector of double angles, which has the
    period of a box.

    Args:
        boxes: (N, 5), see `anchors.oriented`.
        weights: (N,), not below 0.
        group: the group (N,) of each, from 0.

    Returns:
        Canonical boxes (G, 5).
    """
    center, (w, h, angle) = boxes[:, :2], boxes[:, 2:].T
    order = (-weights).argsort(kind="stable")
    best = order[np.unique(group[order], return_index=True)[1]] if len(boxes) else order
    swap = np.cos(2 * (angle - angle[best][group])) < 0
    sides = np.where(swap, (h, w), (w, h))
    double = 2 * angle + np.pi * swap
    columns = [*center.T, *sides, np.cos(double), np.sin(double)]
    sums = [np.bincount(group, weights * column, len(best)) for column in columns]
    mean = np.stack(sums[:4], 1) / np.bincount(group, weights, len(best))[:, None]
    angles = np.arctan2(sums[5], sums[4]) / 2
    return canonical(torch.from_numpy(np.column_stack([mean, angles]))).numpy()


def merge_oriented_tiles(detections: list[Detections], places: np.ndarray, near: float) -> Detections:
    """The merged detections of all views, in pixels of the image. Arguments as of `merge_tiles`."""
    merged, view = concatenate_views(detections)
    assert merged.oriented is not None
    corners, frame = oriented_to_corners(merged.oriented).double().numpy(), places[view][:, None].astype(float)
    low, high = corners - frame[..., :2], frame[..., 2:] - corners  # how far each corner is inside its view
    inner = np.concatenate([frame[..., :2] > places[0, :2], frame[..., 2:] < places[0, 2:]], -1)
    cut: np.ndarray = np.any(inner & (np.concatenate([low, high], -1) <= near), axis=(1, 2))
    order = np.lexsort((-merged.scores.numpy(), cut))
    rank = np.argsort(order)
    first, second, overlap = _overlapping(merged, view, places)
    swap = rank[first] > rank[second]
    better, worse = np.where(swap, second, first), np.where(swap, first, second)
    area = merged.oriented[:, 2:4].double().prod(1).numpy()
    covered = overlap / (1 + overlap) * (area[better] + area[worse]) / area[worse].clip(1e-9)
    labels = merged.labels.numpy()
    same = (labels[better] == labels[worse]) & ((overlap >= SAME) | (cut[worse] & (covered >= SAME)))
    alive = decide(rank[better[same]], rank[worse[same]], len(merged))
    return merged[torch.from_numpy(np.sort(order[alive]))]


def _overlapping(merged: Detections, view: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of boxes of different views that overlap: indices (P,), (P,) and the IoU (P,).

    Only boxes of views that overlap are compared, so that time grows with the area of the image.
    """
    assert merged.oriented is not None
    starts = np.searchsorted(view, np.arange(len(places) + 1))
    meet = np.all(places[:, None, :2] < places[None, :, 2:], axis=-1)
    pairs = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for a, b in np.argwhere(np.triu(meet & meet.transpose(), 1)):
        overlap = oriented_iou(*(merged.oriented[starts[one] : starts[one + 1]] for one in (a, b))).numpy()
        i, j = overlap.nonzero()
        pairs.append((i + starts[a], j + starts[b], overlap[i, j]))
    first, second, overlap = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return first, second, overlap
