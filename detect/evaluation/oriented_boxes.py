"""Annotated oriented boxes, and their overlap with detected ones.

Axes: N detections, G objects, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
import torch

from anchors.oriented import clipped_iou, columns, corners_to_oriented, oriented_iou
from detect.data.annotations import Annotations
from detect.errors import UserError

_CACHE: WeakKeyDictionary[Annotations, np.ndarray] = WeakKeyDictionary()  # training evaluates the same set every epoch
_MOST = 1 << 20  # pairs compared at a time, which bounds the memory


def annotated_oriented(annotations: Annotations) -> np.ndarray:
    """The oriented boxes (G, 5) float64 of all objects: the smallest around the four corners of each.

    Raises:
        UserError: an object has no outline.
    """
    known = _CACHE.get(annotations)
    if known is None:
        known = _CACHE[annotations] = _boxes(annotations)
    return known


def _boxes(annotations: Annotations) -> np.ndarray:
    missing = np.ones(len(annotations.ids), bool)
    if annotations.outlines is not None:
        missing = ~annotations.outlines.present
    if missing.any():
        raise UserError(
            f"{annotations.path}: annotation {annotations.ids[missing.argmax()]} has no outline, and models of "
            f"oriented boxes are measured by them ({int(missing.sum()):,} of {len(missing):,} have none): add the four "
            "corners of each object as its segmentation"
        )
    if annotations.outlines is None:
        return np.zeros((0, 5))
    boxes: np.ndarray = corners_to_oriented(torch.from_numpy(annotations.outlines.corners())).numpy()
    return boxes


def rotated_iou(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """IoU (N, G) of oriented boxes (N, 5) and (G, 5)."""
    values: np.ndarray = oriented_iou(torch.from_numpy(boxes), torch.from_numpy(targets)).numpy()
    return values


def rotated_shares(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The share of each oriented box (N, 5) that lies in each region (G, 5)."""
    values = rotated_iou(boxes, regions)
    own, others = boxes[:, 2, None] * boxes[:, 3, None], regions[:, 2] * regions[:, 3]
    inside: np.ndarray = values * (own + others) / (1 + values) / np.maximum(own, 1e-12)
    return inside


def overlapping_pairs(
    boxes: np.ndarray, groups: np.ndarray, targets: np.ndarray, target_groups: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of boxes of one group whose IoU exceeds a threshold.

    Args:
        boxes: oriented boxes (N, 5).
        groups: (N,) int64, such as a number for each image and class.
        targets: oriented boxes (G, 5).
        target_groups: (G,) int64.
        iou: IoU threshold.

    Returns:
        Indices (P,) of boxes, ascending, and (P,) of targets, ascending for each box; their IoU (P,).
    """
    own, others = columns(torch.from_numpy(boxes)), columns(torch.from_numpy(targets))
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for i, j in _candidates(groups, target_groups):
        a, b = own[:, i], others[:, j]
        reach = torch.hypot(a[2], a[3]) + torch.hypot(b[2], b[3])  # twice the radii of the circles around them
        near = (2 * torch.hypot(a[0] - b[0], a[1] - b[1]) <= reach).nonzero()[:, 0]
        values = clipped_iou(a[:, near], b[:, near])
        hit = values > iou
        near = near[hit]
        found.append((i[near].numpy(), j[near].numpy(), values[hit].numpy()))
    first, second, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, overlap


def _candidates(groups: np.ndarray, target_groups: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield pairs of rows and targets of one group, as indices (P,) and (P,)."""
    order = target_groups.argsort(kind="stable")
    ranked = target_groups[order]
    start = ranked.searchsorted(groups)
    counts = ranked.searchsorted(groups, "right") - start
    parts = counts.cumsum() // _MOST
    for part in range(int(parts.max(initial=-1)) + 1):
        rows = np.flatnonzero(parts == part)
        many = counts[rows]
        ends = many.cumsum()
        place = np.arange(ends[-1] if len(ends) else 0) + (start[rows] + many - ends).repeat(many)
        yield torch.from_numpy(rows.repeat(many)), torch.from_numpy(order[place])
