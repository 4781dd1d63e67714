"""The four corners of outlines: their own where they have four points, else those of their smallest rectangle.

Axes: N objects, P points of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from detect.data import rle
from detect.data.groups import gather

if TYPE_CHECKING:
    from detect.data.outlines import Outlines


def corners(outlines: Outlines) -> np.ndarray:
    """Return the corners (N, 4, 2) of each object: see `Outlines.corners`.

    An RLE is not traced: of its runs only the ends are looked at.
    """
    found = np.full((len(outlines), 4, 2), np.nan) if outlines.frames is None else outlines.frames.copy()
    missing = np.isnan(found).any(axis=(1, 2)) & outlines.present
    encoded = np.diff(outlines.code_starts) > 0
    rows = np.flatnonzero(missing & ~encoded)
    rings, object_starts = gather(outlines.object_starts, rows)
    outer = ~outlines.holes[rings]
    points, ring_starts = gather(outlines.ring_starts, rings[outer])
    _fill(found, rows, outlines.points[points], ring_starts[np.concatenate([[0], np.cumsum(outer)])[object_starts]])
    rows = np.flatnonzero(missing & encoded)
    if len(rows):
        codes, starts = gather(outlines.code_starts, rows)
        _fill(found, rows, *rle.hull_points(outlines.codes[codes], starts, outlines.rle_sizes[rows]))
    return found


def _fill(found: np.ndarray, rows: np.ndarray, points: np.ndarray, starts: np.ndarray) -> None:
    """Set the corners of some objects from their points, those of object rows[i] at starts[i]:starts[i + 1]."""
    four = np.diff(starts) == 4
    found[rows[four]] = in_order(points[starts[:-1][four, None] + np.arange(4)])
    for i in np.flatnonzero(~four & (np.diff(starts) > 0)).tolist():
        own = points[starts[i] : starts[i + 1]]
        middle = own.mean(0)  # cv2 counts in float32
        found[rows[i]] = cv2.boxPoints(cv2.minAreaRect((own - middle).astype(np.float32))) + middle


def in_order(corners: np.ndarray) -> np.ndarray:
    """Return corners (N, 4, 2) in order around their middle where their own encloses less, as that of an 8 does."""
    spokes = corners - corners.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(spokes[..., 1], spokes[..., 0]), axis=1, kind="stable")
    around = np.take_along_axis(corners, order[..., None], axis=1)
    own, area = (np.abs(np.linalg.det(one[:, 2:] - one[:, :2])) for one in (corners, around))  # of the diagonals
    less = own * (1 + 1e-9) < area
    return np.where(less[:, None, None], around, corners)
