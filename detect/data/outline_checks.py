"""Which outlines can be used: tasks of masks and oriented boxes refuse the others or leave their objects out.

Axes: I images, N objects, R rings. `sizes` (I, 2) are the heights and widths of the images, 0 where unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detect.data import rle
from detect.data.annotations import known_sizes
from detect.data.bad_records import BadRecords
from detect.data.boxes import called, owners
from detect.data.outline_clipping import polygon_areas
from detect.data.outlines import Outlines
from detect.errors import UserError

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

FLAT = 1e-9  # square pixels: the variance of points on a line, across it


def outlined(annotations: Annotations, skip_bad: bool = False) -> Annotations:
    """Return annotations in which every object has an outline that can be used, for tasks that need them.

    The first object without one is an error; with `skip_bad` such objects are left out and listed in `left_out`.

    Raises:
        UserError: an object has no outline, or a bad one; or no object has any.
    """
    if annotations.outlines is None and len(annotations.boxes):
        raise UserError(
            f"{annotations.path}: no object has an outline, which this task learns: add 'segmentation' to the "
            "annotations, or train another task, such as --task detect"
        )
    bad_records, bad = BadRecords(annotations.path, skip_bad), np.zeros(len(annotations.boxes), bool)
    for _, row, text in outline_faults(annotations, known_sizes(annotations)):
        bad_records.reject(called(annotations, row), text)
        bad[row] = True
    if annotations.outlines is None:
        annotations = replace(annotations, outlines=Outlines.of_polygons([]))
    return annotations.without(bad, bad_records.lines) if bad.any() else annotations


def without_outlines(annotations: Annotations, skip_bad: bool = False) -> Annotations:
    """Return annotations without outlines, for tasks that learn from boxes or classes alone."""
    return replace(annotations, outlines=None)


def outline_faults(annotations: Annotations, sizes: np.ndarray) -> Iterator[tuple[str, int, str]]:
    """Yield (kind, row, what is wrong) of each object whose outline is missing or cannot be used, once an object."""
    outlines = annotations.outlines
    if outlines is None:
        return
    room = sizes[owners(annotations)]
    encoded = (outlines.rle_sizes > 0).all(1)
    broken = encoded & rle.broken(outlines.codes, outlines.code_starts, outlines.rle_sizes)
    mismatched = encoded & (room > 0).all(1) & (outlines.rle_sizes != room).any(1)
    bounds, empty = outlines.bounds(), enclosing_nothing(outlines)
    away = (bounds[:, :2] >= room[:, ::-1]).any(1) | (bounds[:, 2:] <= 0).any(1)
    away &= (room > 0).all(1)
    present = outlines.present
    for row in np.flatnonzero(~present | broken | mismatched | empty | away).tolist():
        if not present[row]:
            text = annotations.bad_outlines.get(int(annotations.ids[row]))
            yield ("outline", row, text) if text else ("no_outline", row, "has no outline, as other objects have")
        elif broken[row]:
            height, width = outlines.rle_sizes[row].tolist()
            yield "outline", row, f"has an RLE whose counts do not fill its {width} x {height} pixels"
        elif mismatched[row]:
            text = "has an RLE of {1} x {0} pixels where the image has {3} x {2}"
            yield "outline", row, text.format(*outlines.rle_sizes[row].tolist(), *room[row].tolist())
        elif empty[row]:
            yield "outline", row, "has an outline that encloses nothing"
        else:
            (x, y, right, bottom), (height, width) = bounds[row].tolist(), room[row].tolist()
            where = f"x {x:g} to {right:g}, y {y:g} to {bottom:g}, in {width} x {height} pixels"
            yield "outline", row, f"has an outline wholly outside its image: {where}"


def enclosing_nothing(outlines: Outlines) -> np.ndarray:
    """Return (N,) which outlines are empty RLEs, or rings whose points all lie on one line."""
    found = np.bincount(*_filled(outlines), minlength=len(outlines)) == 0
    lengths = np.diff(outlines.ring_starts)
    starts, counts = outlines.ring_starts[:-1][lengths > 0], lengths[lengths > 0]
    if not len(starts):
        return np.asarray(found)
    means = np.add.reduceat(outlines.points, starts) / counts[:, None]
    x, y = (outlines.points - np.repeat(means, counts, axis=0)).T
    xx, yy, xy = np.add.reduceat(np.stack([x * x, y * y, x * y], 1), starts).T / counts
    thin = xx * yy - xy * xy <= FLAT * (xx + yy)  # the least variance in any direction
    owner = np.repeat(np.arange(len(outlines)), np.diff(outlines.object_starts))
    found[owner[lengths > 0][~thin]] = False
    return np.asarray(found)


def outlined_areas(outlines: Outlines) -> np.ndarray:
    """Return (N,) the area in pixels of each outline: of polygons the sum of their parts', without their holes.

    Of a polygon that crosses itself, what it goes around the other way counts against the rest.
    """
    return np.asarray(polygon_areas(outlines) + np.bincount(*_filled(outlines), minlength=len(outlines)))


def _filled(outlines: Outlines) -> tuple[np.ndarray, np.ndarray]:
    """The object of each run inside an RLE, and the pixels of the run."""
    runs, starts = rle.decode(outlines.codes, outlines.code_starts)
    first, end, masks = rle.spans(runs, starts, outlines.rle_sizes)
    return masks, end - first
