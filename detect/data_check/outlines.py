"""What `detect check` finds out about outlines: those that cannot be used, cross themselves, or do not fit their boxes.

Axes: N objects, R rings, E edges. `sizes` (I, 2) are the heights and widths of the images, 0 where unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detect.data.boxes import REACH, called, owners
from detect.data.outline_checks import outline_faults, outlined_areas
from detect.data.outlines import Outlines
from detect.data_check.kinds import Finding

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

AREA = 0.2  # by which share an annotation's area may differ from its outline's; pixels at an edge count or do not
TOGETHER = 512  # rings that are searched for crossings at once
PAIRS = 1 << 18  # pairs of edges that are compared at once: some megabytes
MOST = 1 << 24  # pairs of edges of some rings: more are not looked at, as they would take minutes


def outlines(split: str, annotations: Annotations, sizes: np.ndarray) -> Iterator[Finding]:
    """Yield outlines that are missing or cannot be used, cross themselves, leave box or image, or have another area."""
    found = annotations.outlines
    if found is None:
        return
    owner, bad = owners(annotations), set[int]()

    def finding(kind: str, row: int, text: str) -> Finding:
        return Finding(kind, split, called(annotations, row), text, int(owner[row]), (row,))

    for kind, row, text in outline_faults(annotations, sizes):
        bad.add(row)
        yield finding(kind, row, text)
    partly = {int(i): text for i, text in annotations.bad_outlines.items()}
    for row in np.flatnonzero(np.isin(annotations.ids, list(partly))).tolist() if partly else ():
        if row not in bad:
            yield finding("outline", row, f"{partly[int(annotations.ids[row])]}; the part is left out")
    good = np.ones(len(found), bool)
    good[list(bad)] = False
    room = sizes[owner][:, ::-1].astype(np.float64)
    for kind, row, text in odd(annotations, found, room):
        if good[row]:
            yield finding(kind, row, text)


def odd(annotations: Annotations, outlines: Outlines, room: np.ndarray) -> Iterator[tuple[str, int, str]]:
    """Yield (kind, row, what is odd) of outlines; `room` (N, 2) are the widths and heights of their images."""
    crossed = crossing(outlines)
    for row in np.flatnonzero(crossed).tolist():
        yield "crossing", row, "has a polygon that crosses itself: what it encloses twice is outside"
    bounds = outlines.bounds()
    known = np.asarray((room > 0).all(axis=1))
    out = np.asarray(np.where(known, np.maximum(-bounds[:, :2], bounds[:, 2:] - room).max(axis=1), 0))
    for row in np.flatnonzero(out > REACH).tolist():
        yield "outline_outside", row, f"has an outline that reaches {out[row]:.1f} pixels out of the image"
    inside = np.where(np.tile(known[:, None], 4), bounds.clip(0, np.tile(room, 2)), bounds)
    corners = annotations.boxes.copy()
    corners[:, 2:] += corners[:, :2]
    past = np.asarray(np.maximum(corners[:, :2] - inside[:, :2], inside[:, 2:] - corners[:, 2:]).max(axis=1))
    for row in np.flatnonzero(past > REACH).tolist():
        yield "leaves_box", row, f"has an outline that reaches {past[row]:.1f} pixels out of its box"
    areas, own = outlined_areas(outlines), annotations.areas
    told = (
        np.abs(own - annotations.boxes[:, 2:].prod(axis=1)) > 0.01 * own
    )  # else made of the box, where none was given
    for row in np.flatnonzero(told & (np.abs(own - areas) > AREA * np.maximum(own, areas) + 2)).tolist():
        yield "area", row, f"has an area of {own[row]:g}, and an outline of {areas[row]:g} square pixels"


def crossing(outlines: Outlines) -> np.ndarray:
    """Return (N,) which objects have a ring of which two edges cross."""
    found = np.zeros(len(outlines), bool)
    owner = np.repeat(np.arange(len(outlines)), np.diff(outlines.object_starts))
    rings = replace(outlines, codes=outlines.codes[:0], code_starts=np.zeros(len(outlines) + 1, np.int64))
    for start in range(0, len(owner), TOGETHER):
        some = np.arange(start, min(start + TOGETHER, len(owner)))
        found[owner[_crossed(rings, some)]] = True
    return found


def _crossed(outlines: Outlines, rings: np.ndarray) -> np.ndarray:
    """Which of the rings, given in one stretch, have edges that cross."""
    first, last = int(outlines.ring_starts[rings[0]]), int(outlines.ring_starts[rings[-1] + 1])
    starts = outlines.ring_starts[rings[0] : rings[-1] + 2] - first
    here = outlines.points[first:last]
    follow = np.arange(1, len(here) + 1)
    used = np.diff(starts) > 0
    follow[starts[1:][used] - 1] = starts[:-1][used]
    there, ring = here[follow], np.repeat(rings, np.diff(starts))
    low, high = np.minimum(here, there), np.maximum(here, there)
    span = float(high[:, 0].max(initial=0) - low[:, 0].min(initial=0)) + 1
    keys = low[:, 0] + ring * span  # edges of a ring from the left to the right
    order = np.argsort(keys)
    stop = np.searchsorted(keys[order], (high[:, 0] + ring * span)[order], "right")
    counts = np.maximum(stop - np.arange(len(order)) - 1, 0)
    ends, found = np.cumsum(counts), list[int]()
    if not len(ends) or ends[-1] > MOST:
        return np.zeros(0, np.int64)
    for begin in range(0, int(ends[-1]), PAIRS):
        pair = np.arange(begin, min(begin + PAIRS, int(ends[-1])))
        one = np.searchsorted(ends, pair, "right")
        other = one + 1 + pair - (ends - counts)[one]
        a, b = order[one], order[other]
        near = (low[a, 1] <= high[b, 1]) & (low[b, 1] <= high[a, 1]) & (ring[a] == ring[b])
        a, b = a[near], b[near]
        met = _cross(here[a], there[a], here[b], there[b])
        found += ring[a[met]].tolist()
    return np.unique(np.array(found, np.int64))


def _cross(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Whether segments (E, 2) from p to q and from r to s cross, each between its ends."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        u, v = b - a, c - a
        return np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])

    return np.asarray((side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0))
