"""COCO's run-length encoding (RLE) of masks: lengths of runs, column by column, the first of them outside.

Counts are kept in their compressed form, `codes`: five bits of a number in each character, the sixth says that more
follow, and from the fourth run on a number is the difference to the run two before it.
Axes: N masks; L codes, R runs of all masks end to end, those of mask i at starts[i]:starts[i + 1].
"""

from __future__ import annotations

import cv2
import numpy as np

LONGEST = 7  # characters of a number: 35 bits


def encode(runs: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (L,) uint8 of runs (R,), and where those of each mask start (N + 1,)."""
    values = runs.astype(np.int64)
    place = np.arange(len(values)) - np.repeat(starts[:-1], np.diff(starts))
    later = np.flatnonzero(place > 2)
    values[later] -= runs.astype(np.int64)[later - 2]
    longest = int(max(values.max(initial=0), -values.min(initial=0))).bit_length() // 5 + 1  # of these; a bit for signs
    groups = values[:, None] >> (5 * np.arange(longest + 1))  # arithmetic shifts: what is left, with its sign
    bits = groups & 0x1F
    over = np.where(bits[:, :-1] & 0x10, groups[:, 1:] != -1, groups[:, 1:] != 0)  # more has to follow
    used = np.ones((len(values), longest), bool)
    np.logical_and.accumulate(over[:, :-1], axis=1, out=used[:, 1:])
    codes = (bits[:, :-1] | np.where(over, 0x20, 0)) + 48
    ends = np.concatenate([[0], np.cumsum(used.sum(1))])
    return codes[used].astype(np.uint8), ends[starts]


def of_values(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values (N,) of pixels (h, w), ascending, and codes (L,) and starts (N + 1,) of their masks."""
    flat = labels.T.ravel()
    begins = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    edges = np.stack([begins, np.append(begins[1:], len(flat))], 1)
    order = np.argsort(flat[begins], kind="stable")
    values, first = np.unique(flat[begins][order], return_index=True)
    groups = np.split(edges[order], first[1:])
    runs = [np.diff(np.concatenate([[0], group.ravel(), [len(flat)]])) for group in groups]
    runs = [run if run[-1] else run[:-1] for run in runs]
    codes, starts = encode(np.concatenate(runs), np.concatenate([[0], np.cumsum([len(run) for run in runs])]))
    return values, codes, starts


def decode(codes: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs (R,) int64 of codes (L,) uint8, and where those of each mask start (N + 1,).

    Broken codes give runs that do not fill the mask; see `broken`.
    """
    values = codes.astype(np.int64) - 48
    last = (values & 0x20) == 0
    last[starts[1:][np.diff(starts) > 0] - 1] = True
    number = np.cumsum(last) - last  # of each character
    begins = np.concatenate([[0], np.flatnonzero(last) + 1])
    digit = np.arange(len(values)) - begins[number]
    parts = (values & 0x1F) << (5 * np.minimum(digit, LONGEST - 1))
    numbers = np.add.reduceat(parts, begins[:-1]) if len(values) else np.zeros(0, np.int64)
    sign = (values[last] & 0x10) != 0
    numbers[sign] -= np.int64(1) << (5 * np.minimum(digit[last] + 1, LONGEST))[sign]
    run_starts = np.concatenate([[0], np.cumsum(last)])[starts]
    return _summed(numbers, run_starts), run_starts


def _summed(numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Runs of their differences: from the fourth on, each is a difference to the run two before it."""
    place = np.arange(len(numbers)) - np.repeat(starts[:-1], np.diff(starts))
    runs = numbers.copy()
    for odd in (0, 1):
        rows = np.flatnonzero((place % 2 == odd) & (place > 0))
        if not len(rows):
            continue
        sums = np.cumsum(numbers[rows])
        first = place[rows] == 2 - odd
        before = np.where(first, sums - numbers[rows], 0)
        runs[rows] = sums - before[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
    return runs


def broken(codes: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (N,) whether codes are not those of a mask of `sizes` (N, 2) height and width."""
    runs, run_starts = decode(codes, starts)
    filled = np.zeros(len(sizes), np.int64)
    lengths, used = np.diff(run_starts), np.diff(run_starts) > 0
    lowest = np.zeros(len(sizes), np.int64)
    if used.any():
        filled[used] = np.add.reduceat(runs, run_starts[:-1][used])
        lowest[used] = np.minimum.reduceat(runs, run_starts[:-1][used])
    wrong = (filled != sizes.astype(np.int64).prod(1)) | (lowest < 0) | (lengths == 0)
    odd = (codes < 48) | (codes > 111)
    owner = np.repeat(np.arange(len(sizes)), np.diff(starts))
    wrong[owner[odd]] = True
    ends = starts[1:][np.diff(starts) > 0] - 1
    wrong[owner[ends[((codes[ends].astype(int) - 48) & 0x20) != 0]]] = True  # the last number is cut off
    return wrong


def spans(runs: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first and the last pixel + 1 of each run inside a mask, counted column by column, and its mask."""
    total = np.concatenate([[0], np.cumsum(runs)])
    place = np.arange(len(runs)) - np.repeat(starts[:-1], np.diff(starts))
    owner = np.repeat(np.arange(len(sizes)), np.diff(starts))
    inside = np.flatnonzero((place % 2 == 1) & (runs > 0))
    base, end = total[starts[:-1]][owner[inside]], sizes.astype(np.int64).prod(1)[owner[inside]]
    return (
        (total[inside] - base).clip(0, end),  # within the mask, whatever the codes say
        (total[inside + 1] - base).clip(0, end),
        owner[inside],
    )


def bounds(codes: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (N, 4) int64 x, y, x, y of the pixels inside masks; zeros for an empty one."""
    first, end, owner = spans(*decode(codes, starts), sizes)
    found = np.zeros((len(sizes), 4), np.int64)
    if not len(owner):
        return found
    high = np.maximum(sizes[owner, 0].astype(np.int64), 1)
    left, right = first // high, (end - 1) // high
    along = left != right  # it goes on in the next column: from the top to the bottom
    top, bottom = np.where(along, 0, first % high), np.where(along, high - 1, (end - 1) % high)
    rows = np.flatnonzero(np.diff(owner, prepend=-1))
    found[owner[rows]] = np.stack(
        [
            np.minimum.reduceat(left, rows),
            np.minimum.reduceat(top, rows),
            np.maximum.reduceat(right, rows) + 1,
            np.maximum.reduceat(bottom, rows) + 1,
        ],
        1,
    )
    return found


def hull_points(codes: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points (P, 2) x, y that have the convex hulls of masks, and where those of each start (N + 1,).

    They are the corners of the outermost pixels of each column that runs begin or end in. An upright rectangle has its
    own four, in order; an empty mask has none.
    """
    first, end, owner = spans(*decode(codes, starts), sizes)
    first, end, owner = first[end > first], end[end > first], owner[end > first]
    high = np.maximum(sizes[owner, 0].astype(np.int64), 1)
    left, right, top, bottom = first // high, (end - 1) // high, first % high, (end - 1) % high + 1
    one = left == right
    # A run of several columns: the end of the first, the beginning of the last, and all of those between.
    parts = [(left, top, np.where(one, bottom, high)), (right, np.where(one, top, 0), bottom)]
    between = right - left > 1
    whole = (left[between] + 1, right[between] - 1)
    column = np.concatenate([parts[0][0], parts[1][0], *whole])
    low = np.concatenate([parts[0][1], parts[1][1], np.zeros(2 * between.sum(), np.int64)])
    upper = np.concatenate([parts[0][2], parts[1][2], high[between], high[between]])
    owners = np.concatenate([owner, owner, owner[between], owner[between]])
    order = np.lexsort((column, owners))
    column, low, upper, owners = column[order], low[order], upper[order], owners[order]
    rows = np.flatnonzero((np.diff(owners, prepend=-1) != 0) | (np.diff(column, prepend=-1) != 0))
    column, owners = column[rows], owners[rows]
    if len(rows):
        low, upper = np.minimum.reduceat(low, rows), np.maximum.reduceat(upper, rows)
    ends = np.stack([np.stack([column, low], 1), np.stack([column + 1, low], 1)], 1)
    ends = np.concatenate([ends, ends[:, ::-1] + np.stack([0 * low, upper - low], 1)[:, None]], 1)
    boxes = bounds(codes, starts, sizes)
    areas = np.bincount(owner, end - first, len(sizes)).astype(np.int64)
    full = (areas > 0) & (areas == (boxes[:, 2:] - boxes[:, :2]).prod(1))
    kept = ~full[owners]
    points = np.concatenate([ends[kept].reshape(-1, 2), boxes[full][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)])
    owners = np.concatenate([np.repeat(owners[kept], 4), np.repeat(np.flatnonzero(full), 4)])
    counts = np.bincount(owners, minlength=len(sizes))
    return points[np.argsort(owners, kind="stable")].astype(np.float64), np.concatenate([[0], np.cumsum(counts)])


def pixels(codes: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounding box (4,) x, y, x, y of the pixels inside one mask of `size` (2,), and these (h, w) bool.

    Only the columns that hold some are made.
    """
    starts = np.array([0, len(codes)])
    box = bounds(codes, starts, size[None])[0]
    left, top, right, bottom = box.tolist()
    first, end, _ = spans(*decode(codes, starts), size[None])
    high = int(size[0])
    steps = np.zeros((right - left) * high + 1, np.int32)
    np.add.at(steps, first - left * high, 1)
    np.add.at(steps, end - left * high, -1)
    return box, np.asarray(np.cumsum(steps[:-1]).reshape(right - left, high).T[top:bottom] > 0)


def trace(pixels: np.ndarray) -> tuple[list[np.ndarray], list[bool]]:
    """Return the rings (V, 2) along the edges of pixels (h, w) bool, and which are holes; outer ones come first.

    An island in a hole comes after the hole: painted in this order, the rings give the pixels back.
    """
    doubled = np.repeat(np.repeat(pixels.astype(np.uint8), 2, 0), 2, 1)  # each of its pixels touches one corner
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return [], []
    rings = [_corners((contour[:, 0].astype(np.int64) + 1) // 2) for contour in contours]
    order = sorted(range(len(rings)), key=lambda i: -float(cv2.contourArea(rings[i].astype(np.float32))))
    return [rings[i].astype(np.float64) for i in order], [bool(tree[0, i, 3] >= 0) for i in order]


def _corners(path: np.ndarray) -> np.ndarray:
    """A closed path (V, 2) along pixel edges without points on straight lines."""
    path = path[(path != np.roll(path, 1, axis=0)).any(1)]
    turns = (np.sign(path - np.roll(path, 1, axis=0)) != np.sign(np.roll(path, -1, axis=0) - path)).any(1)
    return path[turns]
