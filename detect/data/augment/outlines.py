"""Moves the outlines of objects with the pixels of their images, and finds what of each is seen.

Axes: N objects, V points.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detect.data.outline_clipping import clipped, polygon_areas, subdivided

if TYPE_CHECKING:
    from detect.data.augment.warp import Warp
    from detect.data.outlines import Outlines

SHORT = 1 / 40  # of the side of a canvas: edges no longer than this bend with a warp to a tenth of a pixel


def place_outlines(
    outlines: Outlines, rows: np.ndarray, warp: Warp | None, size: tuple[int, int]
) -> tuple[Outlines, np.ndarray, np.ndarray]:
    """Place outlines on a canvas as images: x' = x * scale + offset, cut off outside the view, then warped.

    Args:
        outlines: of N objects.
        rows: (N, 16), in columns 0, 1 the scale of each, in 4, 5 its offset, in 8, 9, 12, 13 the view in which it is
            seen: x, y, x, y.
        warp: moves what is seen.
        size: height and width of the canvas.

    Returns:
        What is seen of the outlines, those that stay `whole` uncut; boxes (N, 4) around what is seen, zeros around
        nothing; and its share (N,) of each object's area.
    """
    rings = outlines.as_rings()
    owner = rings.owners()
    rings = replace(rings, points=rings.points * rows[owner, :2] + rows[owner, 4:6])
    seen = clipped(rings, rows[:, [8, 9, 12, 13]])
    share = _shares(seen, rings)
    if warp is not None:
        bent = seen if warp.knots is None else subdivided(seen, warp.size * SHORT)
        moved = replace(bent, points=warp.forward(bent.points))
        seen = clipped(moved, np.array([0.0, 0.0, *size[::-1]]))
        share *= _shares(seen, moved)
        if rings.whole:
            rings = replace(rings, points=warp.forward(rings.points))
    return rings if rings.whole else seen, seen.bounds(), share


def _shares(seen: Outlines, whole: Outlines) -> np.ndarray:
    """The share (N,) that is seen of the area of each object; 1 for one without area."""
    if seen is whole:
        return np.ones(len(whole))
    areas = polygon_areas(whole)
    return np.divide(polygon_areas(seen), areas, out=np.ones(len(areas)), where=areas > 0)
