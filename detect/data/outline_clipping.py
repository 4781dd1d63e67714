"""Cuts outlines off where the part of an image that is seen ends.

Axes: N objects, R rings, V points of all rings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detect.data.groups import gather, joined, members, starts_of

if TYPE_CHECKING:
    from detect.data.outlines import Outlines


def clipped(outlines: Outlines, views: np.ndarray) -> Outlines:
    """Return the parts of outlines, as rings, that lie in a rectangle x, y, x, y of each object (N, 4), or of all (4,).

    A ring that is cut into pieces becomes several. An object of which nothing is left has none.
    """
    rings = outlines.as_rings()
    starts, owner = rings.ring_starts, members(rings.object_starts)
    if not len(owner):
        return rings
    view = np.broadcast_to(views, (len(rings), 4))[owner]
    low, high = (extreme.reduceat(rings.points, starts[:-1]) for extreme in (np.minimum, np.maximum))
    inside = ((low >= view[:, :2]) & (high <= view[:, 2:])).all(axis=1)
    if inside.all():
        return rings
    crossing = np.flatnonzero(~inside & ((high > view[:, :2]) & (low < view[:, 2:])).all(axis=1))
    rows, begins = gather(starts, crossing)
    points, source = rings.points[rows], np.arange(len(crossing))
    for edge in range(4):
        limit, sign = view[crossing[source], edge], 1.0 if edge < 2 else -1.0
        points, begins, source = _cut(points, begins, source, edge % 2, limit, sign)
    kept = np.flatnonzero(inside)
    rows, whole = gather(starts, kept)
    number = np.concatenate([kept, crossing[source]])  # of the ring that each is a piece of
    order = np.argsort(number, kind="stable")
    places, ring_starts = gather(joined([whole, begins]), order)
    number = number[order]
    return replace(
        rings,
        points=np.concatenate([rings.points[rows], points])[places],
        ring_starts=ring_starts,
        holes=rings.holes[number],
        object_starts=starts_of(np.bincount(owner[number], minlength=len(rings))),
    )


def subdivided(outlines: Outlines, longest: float) -> Outlines:
    """Return rings with points between theirs, so that no edge is longer than that: for maps that bend lines."""
    rings = outlines.as_rings()
    step = rings.points[_following(rings.ring_starts)] - rings.points
    parts = np.maximum(np.ceil(np.hypot(*step.T) / longest), 1).astype(np.int64)
    rows, ends = np.repeat(np.arange(len(parts)), parts), np.concatenate([[0], np.cumsum(parts)])
    share = (np.arange(len(rows)) - ends[rows]) / parts[rows]
    return replace(rings, points=rings.points[rows] + share[:, None] * step[rows], ring_starts=ends[rings.ring_starts])


def polygon_areas(outlines: Outlines) -> np.ndarray:
    """Return (N,) the area in pixels of the rings of each object: the sum of its parts', without its holes."""
    owner = members(outlines.object_starts)
    signed = np.where(outlines.holes, -1.0, 1.0) * ring_areas(outlines)
    return np.bincount(owner, signed, minlength=len(outlines))


def ring_areas(outlines: Outlines) -> np.ndarray:
    """Return (R,) the area of each ring, as the shoelace formula has it."""
    starts, lengths = outlines.ring_starts, np.diff(outlines.ring_starts)
    found, used = np.zeros(len(lengths)), np.diff(starts) > 0
    if not used.any():
        return found
    first = np.repeat(outlines.points[starts[:-1][used]], lengths[used], axis=0)
    x, y = (outlines.points - first).T  # near zero, where the products are exact
    follow = _following(starts)
    found[used] = np.add.reduceat(x * y[follow] - x[follow] * y, starts[:-1][used])
    return np.asarray(np.abs(found) / 2)


def _following(starts: np.ndarray) -> np.ndarray:
    """(V,) the row of the point that follows each on its ring."""
    follow = np.arange(1, int(starts[-1]) + 1)
    used = np.diff(starts) > 0
    follow[starts[1:][used] - 1] = starts[:-1][used]
    return follow


def _cut(
    points: np.ndarray, starts: np.ndarray, source: np.ndarray, axis: int, limit: np.ndarray, sign: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of rings (R,) is at least at the `limit` (R,) of each along an axis; at most, for the sign -1.

    `source` (R,) goes along: each piece has that of its ring.
    """
    ring = members(starts)
    edge = limit[ring]
    room = (points[:, axis] - edge) * sign
    inside = room >= 0
    if inside.all():
        return points, starts, source
    follow = _following(starts)
    crosses = inside != inside[follow]
    used = inside.astype(np.int64) + crosses  # of each point: itself, and where the edge after it crosses the limit
    ends = starts_of(used)
    found = np.empty((int(ends[-1]), 2))
    found[ends[:-1][inside]] = points[inside]
    rows = np.flatnonzero(crosses)
    after = follow[rows]
    share = room[rows] / (room[rows] - room[after])
    places = points[rows] + share[:, None] * (points[after] - points[rows])
    places[:, axis] = edge[rows]
    found[ends[1:][rows] - 1] = places
    begins = ends[starts]
    torn = np.flatnonzero(np.bincount(ring[rows], minlength=len(source)) > 2)
    if len(torn):
        exits = np.zeros(len(found), np.int64)  # 1 where a ring leaves, -1 where it comes back
        exits[ends[1:][rows] - 1] = np.where(inside[rows], 1, -1)
        found, begins, source = _mended(found, begins, source, exits, torn, 1 - axis)
    good = np.flatnonzero(begins[1:] - begins[:-1] > 2)
    if len(good) < len(source):
        rows, begins = gather(begins, good)
        found, source = found[rows], source[good]
    return found, begins, source


def _mended(
    points: np.ndarray, starts: np.ndarray, source: np.ndarray, exits: np.ndarray, torn: np.ndarray, along: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cut rings, of which those that are `torn` become one ring for each of their pieces."""
    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    pieces = [[points[start:end]] for start, end in spans]
    for ring in torn.tolist():
        span = slice(int(starts[ring]), int(starts[ring + 1]))
        pieces[ring] = _pieces(points[span], exits[span], along)
    flat = [piece for parts in pieces for piece in parts]
    counts = [len(parts) for parts in pieces]
    return np.concatenate(flat), starts_of([len(piece) for piece in flat]), np.repeat(source, counts)


def _pieces(points: np.ndarray, exits: np.ndarray, along: int) -> list[np.ndarray]:
    """The pieces of a ring that leaves the view more than once, at points on a line where `exits` is 1.

    What lies inside on the line is between its first and second crossing, its third and fourth and so on; so a piece
    goes on at the other one of a pair.
    """
    first = int(np.flatnonzero(exits < 0)[0])
    points, exits = np.roll(points, -first, axis=0), np.roll(exits, -first)
    entries, leaves = np.flatnonzero(exits < 0), np.flatnonzero(exits > 0)
    crossings = np.concatenate([entries, leaves])
    order = crossings[np.argsort(points[crossings, along], kind="stable")]
    pairs = order.reshape(-1, 2)
    if (exits[pairs].sum(axis=1) != 0).any():  # it crosses itself
        return [points]
    partner = dict(zip(pairs.ravel().tolist(), pairs[:, ::-1].ravel().tolist(), strict=True))
    chains = dict(zip(entries.tolist(), (leaves + 1).tolist(), strict=True))
    pieces = []
    while chains:
        start = entry = next(iter(chains))
        parts = []
        while entry in chains:
            leave = chains.pop(entry)
            parts.append(points[entry:leave])
            entry = partner[leave - 1]
        assert entry == start
        pieces.append(np.concatenate(parts))
    return pieces
