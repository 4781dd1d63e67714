"""Detections as rows of YOLO's text files, in coordinates relative to the image.

A row is the class, then the shape, then the score. The shape is the centre, width and height of a box; the four corners
of an oriented box; or the polygon of a mask, which has three points or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial import KDTree

from anchors.oriented import oriented_to_corners
from detect.data.rle import trace
from detect.masks import RleMasks
from detect.types import Detections


def yolo_rows(detections: Detections, height: int, width: int) -> Iterator[str]:
    """The row of each detection, with its end of line.

    The polygon of a mask runs along the edges of its pixels, so that it gives the same mask back. Parts and holes are
    joined to one polygon (see `joined`). An empty mask has no row.

    Args:
        detections: of one image.
        height, width: of the image.
    """
    rows = zip(_shapes(detections), detections.labels.tolist(), detections.scores.tolist(), strict=True)
    for points, label, score in rows:
        if len(points):
            numbers = " ".join(f"{value:.6f}" for value in (points / (width, height)).ravel().tolist())
            yield f"{label} {numbers} {score:.5f}\n"


def _shapes(detections: Detections) -> Iterator[np.ndarray]:
    """The numbers of each shape as points (V, 2), x and y in pixels."""
    if isinstance(detections.masks, RleMasks):
        for left, top, mask in detections.masks.windows():
            yield joined(trace(mask)[0]) + np.array([left, top])
    elif detections.oriented is not None:
        yield from oriented_to_corners(detections.oriented.double()).numpy()
    else:
        low, high = detections.boxes.double().numpy().reshape(-1, 2, 2).transpose(1, 0, 2)
        yield from np.stack([(low + high) / 2, high - low], 1)


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Several rings (V, 2) as one, which covers the same by the even-odd rule.

    Each ring is inserted at the nearest point of those before it: the way there and back has no width.
    """
    path = rings[0] if rings else np.zeros((0, 2))
    for ring in rings[1:]:
        gaps, nearest = KDTree(path).query(ring)
        start = int(gaps.argmin())
        place = int(nearest[start])
        around = np.roll(ring, -start, axis=0)
        path = np.concatenate([path[: place + 1], around, around[:1], path[place:]])
    return path
