"""Outlines that were read in parts, put together in the order of their images without a second copy of them all.

Axes: N objects, R rings, V points of all parts; M chosen objects.
"""

from __future__ import annotations

import numpy as np

from detect.data.groups import gather, joined, starts_of
from detect.data.outlines import Outlines


def picked(parts: list[Outlines], rows: np.ndarray) -> Outlines:
    """Return `Outlines.join(parts)[rows]`, and empty the list as its parts are copied.

    Args:
        parts: outlines of N objects, without frames.
        rows: (M,) of objects, none twice.
    """
    if len(parts) == 1 and np.array_equal(rows, np.arange(len(parts[0]))):
        return parts.pop()
    object_starts, ring_starts, code_starts = (
        joined([getattr(part, name) for part in parts]) for name in ("object_starts", "ring_starts", "code_starts")
    )
    holes = np.concatenate([np.zeros(0, bool), *(part.holes for part in parts)])
    codes = np.concatenate([np.zeros(0, np.uint8), *(part.codes for part in parts)])
    rle_sizes = np.concatenate([np.zeros((0, 2), np.int32), *(part.rle_sizes for part in parts)])
    if np.array_equal(rows, np.arange(len(rle_sizes))):  # whole, in the order of the file
        points, first = np.empty((ring_starts[-1], 2)), 0
        while parts:
            some = parts.pop(0).points
            points[first : first + len(some)] = some
            first += len(some)
        return Outlines(points, ring_starts, holes, object_starts, codes, code_starts, rle_sizes)
    rings, picked_objects = gather(object_starts, rows)
    letters, picked_codes = gather(code_starts, rows)
    picked_rings = starts_of(np.diff(ring_starts)[rings])
    place = np.full(len(holes), -1)
    place[rings] = np.arange(len(rings))
    points, first = np.empty((picked_rings[-1], 2)), 0
    while parts:
        part = parts.pop(0)
        last = first + len(part.holes)
        _copy_rings(part, place[first:last], picked_rings, points)
        first = last
    return Outlines(points, picked_rings, holes[rings], picked_objects, codes[letters], picked_codes, rle_sizes[rows])


def _copy_rings(part: Outlines, place: np.ndarray, starts: np.ndarray, points: np.ndarray) -> None:
    """Copy the rings of a part to their `place` (R,) among all rings, which start at `starts`; -1: to none."""
    if len(place) and place[0] >= 0 and (np.diff(place) == 1).all():  # they stay together
        points[starts[place[0]] : starts[place[-1] + 1]] = part.points
        return
    chosen = np.flatnonzero(place >= 0)
    source, begins = gather(part.ring_starts, chosen)
    shift = np.repeat(starts[place[chosen]] - begins[:-1], np.diff(begins))
    points[np.arange(len(source)) + shift] = part.points[source]
