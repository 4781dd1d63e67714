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

NO_AREA = 1e-6  # square pixels


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
    bounds, empty = outlines.bounds(), outlined_areas(outlines) <= NO_AREA
    away = (bounds[:, :2] >= room[:, ::-1]).any(1) | (bounds[:, 2:] <= 0).any(1)
    away &= (room > 0).all(1)
    present = outlines.present
    for row in np.flatnonzero(~present | broken | mismatched | empty | away).tolist():
        if not present[row]:
            text = annotations.bad_outlines.get(int(annotations.ids[row]))
            yield ("bad outline", row, text) if text else ("no outline", row, "has no outline, as other objects have")
        elif broken[row]:
            height, width = outlines.rle_sizes[row].tolist()
            yield "bad outline", row, f"has an RLE whose counts do not fill its {width} x {height} pixels"
        elif mismatched[row]:
            text = "has an RLE of {1} x {0} pixels where the image has {3} x {2}"
            yield "bad outline", row, text.format(*outlines.rle_sizes[row].tolist(), *room[row].tolist())
        elif empty[row]:
            yield "empty outline", row, "has an outline that encloses nothing"
        else:
            (x, y, right, bottom), (height, width) = bounds[row].tolist(), room[row].tolist()
            where = f"x {x:g} to {right:g}, y {y:g} to {bottom:g}, in {width} x {height} pixels"
            yield "away outline", row, f"has an outline wholly outside its image: {where}"


def outlined_areas(outlines: Outlines) -> np.ndarray:
    """Return (N,) the area in pixels of each outline: of polygons the sum of their parts', without their holes."""
    runs, starts = rle.decode(outlines.codes, outlines.code_starts)
    first, end, masks = rle.spans(runs, starts, outlines.rle_sizes)
    return np.asarray(polygon_areas(outlines) + np.bincount(masks, end - first, minlength=len(outlines)))
