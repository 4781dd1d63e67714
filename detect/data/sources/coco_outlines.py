"""The `segmentation` of COCO annotations as flat arrays: polygons, and RLEs as lists of counts or as strings."""

from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from detect.data import rle
from detect.data.boxes import BEYOND, FARTHEST
from detect.data.groups import gather, starts_of
from detect.data.outlines import Outlines
from detect.data.sources.values import numbers
from detect.utils.json_numbers import number_lists

MOST = 2**32  # pixels of a mask
LONGEST = 2**31 - 1  # its sides
_SHAPE = "a segmentation is a list of polygons [x1, y1, x2, y2, …], or an RLE {size, counts}"
_Encoded = tuple[int, tuple[int, int], bytes | np.ndarray]  # row, size, characters or runs


def packed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of a COCO file with the polygons of its segmentation as arrays: a tenth of the memory of lists.

    What is no polygon of numbers stays as it is, for `read_outlines` to name.
    """
    value = record.get("segmentation")
    if type(value) is list and value and type(value[0]) is list:
        with suppress(TypeError, OverflowError):
            record["segmentation"] = [array("d", part) for part in value]
    return record


def read_outlines(values: list[Any]) -> tuple[Outlines | None, dict[int, str]]:
    """Read the segmentations of objects.

    Args:
        values: one of each of N objects, as a COCO file has it; None, or empty, for none.

    Returns:
        The outlines, None where no object has any, and what is wrong with those that cannot be used, by row. An object
        has none where all of it is wrong; polygons of fewer than three points are left out beside others. Whether RLEs
        have the sizes of their images is not looked at here (see `fitting_images`), nor whether strings of RLEs fill
        their masks (see `outline_faults`).
    """
    flat, lengths, counts = array("d"), list[int](), [0] * len(values)
    encoded, bad = list[_Encoded](), dict[int, str]()
    for row, value in enumerate(values):
        if value is None or (type(value) in (list, dict) and not value):
            continue
        if type(value) is dict:
            _read_rle(row, value, encoded, bad)
            continue
        before = len(lengths)
        try:
            nested = type(value[0]) in (list, array)  # some exporters write one polygon without a list
            for part in value if nested else [value]:
                if type(part) is list:
                    flat.fromlist(part)  # all of it or nothing
                else:
                    flat.extend(part if type(part) is array else array("d", part))
                lengths.append(len(part))
        except (TypeError, KeyError, OverflowError):
            bad[row] = f"has segmentation {value!r:.60}; {_SHAPE}"
        counts[row] = len(lengths) - before
    if not lengths and not encoded:
        return None, bad
    outlines = _polygons(np.frombuffer(flat), np.array(lengths, np.int64), np.array(counts, np.int64), bad)
    return _with_codes(outlines, encoded), bad


def read_texts(
    polygons: list[list[Any]], rles: dict[int, dict[str, Any]]
) -> tuple[Outlines | None, dict[int, str]] | None:
    """`read_outlines` of segmentations whose polygons are still text; None where one is no list of numbers.

    Args:
        polygons: those of each object, each the text of a json value.
        rles: the RLEs of objects without polygons, by row.
    """
    encoded, bad = list[_Encoded](), dict[int, str]()
    for row, value in rles.items():
        _read_rle(row, value, encoded, bad)
    rings = list(chain.from_iterable(polygons))
    if not rings and not encoded:
        return None, bad
    read = number_lists(rings)
    if read is None:
        return None
    counts = np.fromiter(map(len, polygons), np.int64, len(polygons))
    return _with_codes(_polygons(*read, counts, bad), encoded), bad


def with_frames(outlines: Outlines | None, values: list[Any], bad: dict[int, str]) -> Outlines | None:
    """Return outlines with the corners of oriented boxes that objects have beside them.

    Args:
        outlines: of N objects; None where there are none, and corners are not looked at.
        values: the `corners` of each object, four pairs x, y; None for none.
        bad: gets what is wrong with those that cannot be used, by row.
    """
    given = [row for row, value in enumerate(values) if value is not None]
    if outlines is None or not given:
        return outlines
    corners, odd = numbers([values[row] for row in given], 8)
    odd |= (np.abs(corners) > FARTHEST).any(1)
    for row in np.array(given)[odd].tolist():
        bad.setdefault(row, f"has corners {values[row]!r:.60}, not four pairs x, y within reach")
    frames = np.full((len(values), 8), np.nan)
    frames[given] = np.where(odd[:, None], np.nan, corners)
    return replace(outlines, frames=frames.reshape(-1, 4, 2))


def fitting_images(outlines: Outlines | None, sizes: np.ndarray, bad: dict[int, str]) -> Outlines | None:
    """Return outlines without the RLEs that have another size than their images.

    Args:
        outlines: of N objects; None where there are none.
        sizes: (N, 2) height and width of each object's image; 0 where unknown.
        bad: gets what is wrong with those that are left out, by row.
    """
    if outlines is None or not len(outlines.codes):
        return outlines
    encoded = outlines.code_starts[1:] > outlines.code_starts[:-1]
    wrong = encoded & (sizes > 0).all(1) & (outlines.rle_sizes != sizes).any(1)
    for row in np.flatnonzero(wrong).tolist():
        (height, width), image = outlines.rle_sizes[row].tolist(), sizes[row].tolist()
        bad[row] = f"has an RLE of {width} x {height} pixels where the image has {image[1]} x {image[0]}"
    if not wrong.any():
        return outlines
    lengths = np.where(wrong, 0, np.diff(outlines.code_starts))
    codes = outlines.codes[np.repeat(~wrong, np.diff(outlines.code_starts))]
    rle_sizes = np.where(wrong[:, None], 0, outlines.rle_sizes).astype(np.int32)
    return replace(outlines, codes=codes, code_starts=starts_of(lengths), rle_sizes=rle_sizes)


def _read_rle(row: int, value: dict, encoded: list[_Encoded], bad: dict[int, str]) -> None:
    """Add one RLE to `encoded`, or what is wrong with it to `bad`."""
    size, counts = value.get("size"), value.get("counts")
    if not (type(size) is list and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        bad[row] = f"has an RLE of size {size!r:.60}, not [height, width]"
    elif size[0] * size[1] > MOST or max(size) > LONGEST:
        bad[row] = f"has an RLE of {size[1]} x {size[0]} pixels, larger than any image"
    elif type(counts) is str and counts and counts.isascii():
        encoded.append((row, (size[0], size[1]), counts.encode()))
    elif type(counts) is list:
        try:
            runs = np.array(array("q", counts), np.int64)
        except (TypeError, OverflowError):
            bad[row] = f"has an RLE of counts {counts!r:.60}, not whole numbers"
            return
        if (runs < 0).any():
            bad[row] = f"has an RLE with a count of {runs.min()}; counts are lengths"
            return
        if sum(counts) != size[0] * size[1]:
            bad[row] = f"has an RLE whose counts add up to {sum(counts)}, not to its {size[1]} x {size[0]} pixels"
            return
        encoded.append((row, (size[0], size[1]), runs))
    else:
        bad[row] = f"has an RLE of counts {counts!r:.60}, not a list of numbers or a string"


def _polygons(values: np.ndarray, lengths: np.ndarray, counts: np.ndarray, bad: dict[int, str]) -> Outlines:
    """Outlines of the coordinates of all polygons: `lengths` (R,) of each, and `counts` (N,) of each object's.

    Objects that are `bad` lose all of theirs, and so do those with a bad one; those of too few points go alone.
    """
    starts = starts_of(lengths)
    near = values.min(initial=0) >= -FARTHEST and values.max(initial=0) <= FARTHEST  # false where one is NaN
    if bad or not near or (lengths % 2).any() or lengths.min(initial=6) < 6:
        values, starts, counts = _good_polygons(values, starts, counts, bad)
    return Outlines(
        points=values.reshape(-1, 2),
        ring_starts=starts // 2,
        holes=np.zeros(len(starts) - 1, bool),
        object_starts=starts_of(counts),
        codes=np.zeros(0, np.uint8),
        code_starts=np.zeros(len(counts) + 1, np.int64),
        rle_sizes=np.zeros((len(counts), 2), np.int32),
    )


def _good_polygons(
    values: np.ndarray, starts: np.ndarray, counts: np.ndarray, bad: dict[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coordinates of the good polygons, where each starts, and how many each object has: see `_polygons`."""
    owner, lengths = np.repeat(np.arange(len(counts)), counts), np.diff(starts)
    broken = np.zeros(len(counts), bool)
    broken[list(bad)] = True
    odd, few = lengths % 2 == 1, lengths < 6
    wild, far = _any(~np.isfinite(values), starts), _any(np.abs(values) > FARTHEST, starts)
    broken[owner[odd | wild | far]] = True
    for ring in np.flatnonzero(odd | few | wild | far).tolist():
        if odd[ring]:
            reason = f"has a polygon of {lengths[ring]} numbers, not pairs of x and y"
        elif wild[ring]:
            reason = "has a polygon with a number that is NaN or infinite"
        elif far[ring]:
            reason = f"has a polygon with a point {BEYOND}"
        else:
            reason = f"has a polygon of {lengths[ring] // 2} points; a polygon takes three or more"
        bad.setdefault(int(owner[ring]), reason)
    good = ~few & ~broken[owner]
    rows, kept = gather(starts, np.flatnonzero(good))
    return values[rows], kept, np.bincount(owner[good], minlength=len(counts))


def _any(flags: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether a flag is set in each group, by where the groups start."""
    if not flags.any():
        return np.zeros(len(starts) - 1, bool)
    return np.asarray(np.diff(np.concatenate([[0], np.cumsum(flags)])[starts]) > 0)


def _with_codes(outlines: Outlines, encoded: list[_Encoded]) -> Outlines:
    if not encoded:
        return outlines
    runs = [one for _, _, one in encoded if isinstance(one, np.ndarray)]
    codes, starts = rle.encode(np.concatenate([np.zeros(0, np.int64), *runs]), starts_of([len(run) for run in runs]))
    packed_runs = iter(np.split(codes, starts[1:-1]) if runs else ())
    lengths, sizes, parts = np.zeros(len(outlines), np.int64), outlines.rle_sizes.copy(), list[np.ndarray]()
    for row, size, one in encoded:
        parts.append(next(packed_runs) if isinstance(one, np.ndarray) else np.frombuffer(one, np.uint8))
        lengths[row], sizes[row] = len(parts[-1]), size
    return replace(outlines, codes=np.concatenate(parts), code_starts=starts_of(lengths), rle_sizes=sizes)
