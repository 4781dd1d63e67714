"""Rasterizes the outlines of an image's objects, all of them at a time: each in the grid of its box, or by label.

Each cell of a grid is four samples. cv2 paints a sample that a ring passes through as inside; painted again at half,
it is right on average. All grids lie one below the other on one canvas, which is filled and averaged at once.

Axes: N objects, S side of a grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from detect.data.outline_clipping import clipped

if TYPE_CHECKING:
    from detect.data.outlines import Outlines

FINER = 2  # samples of a cell along each axis
OUTWARD = 0.1  # samples by which a point on the edge of its grid goes outside, so that what ends there fills its cells
NEAR = 1e-3  # pixels: points so near to a box are not cut off, which would take longer than all the rest
SHIFT = 4  # bits of a sample in cv2's whole numbers


def grids(outlines: Outlines, boxes: np.ndarray, side: int) -> np.ndarray:
    """Return (N, S, S) uint8, the share (0 to 255) of each cell of the grid of its box (N, 4) that an object covers."""
    count, rows = len(outlines), side + 1  # a row of cells between grids takes what passes their edges
    rings = clipped(outlines, boxes + np.array([-NEAR, -NEAR, NEAR, NEAR]))
    owner = rings.owners()
    middle, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)
    zoom = (side * FINER + 2 * OUTWARD) / extent
    samples = (rings.points - middle[owner]) * zoom[owner] + (side * FINER - 1) / 2
    points = np.rint(samples * 2**SHIFT).astype(np.int32)
    below = points + np.stack([np.zeros_like(owner), owner * (rows * FINER << SHIFT)], 1).astype(np.int32)
    canvas = np.zeros((count * rows * FINER, side * FINER), np.uint8)
    counts = np.diff(rings.object_starts)
    _paint(canvas, _rings(below, rings.ring_starts, rings.object_starts[:-1][counts == 1]))
    for i in np.flatnonzero(counts > 1).tolist():
        top = i * rows * FINER
        _compose(canvas[top : top + side * FINER], rings, points, i)
    found = cv2.resize(canvas, (side, count * rows), interpolation=cv2.INTER_AREA) if count else canvas
    return found.reshape(count, rows, side)[:, :side]


def label_map(outlines: Outlines, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (h, w) uint8, the label (N,) of the last object that covers most of a pixel, 255 where there is none."""
    canvas, room = np.full(size, 255, np.uint8), np.array(size[::-1])
    rings = clipped(outlines, np.array([0.0, 0.0, *room]))
    bounds = rings.bounds()
    low = np.floor(bounds[:, :2]).astype(int)
    high = np.ceil(bounds[:, 2:]).astype(int)
    points = np.rint(((rings.points - low[rings.owners()]) * FINER - 0.5) * 2**SHIFT).astype(np.int32)
    for i, ((left, top), (right, bottom)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if right <= left or bottom <= top:
            continue
        fine = np.zeros(((bottom - top) * FINER, (right - left) * FINER), np.uint8)
        _compose(fine, rings, points, i)
        share = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        canvas[top:bottom, left:right][share >= 128] = labels[i]
    return canvas


def _rings(points: np.ndarray, starts: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    """The points of some rings."""
    return [points[a:b] for a, b in zip(starts[chosen].tolist(), starts[chosen + 1].tolist(), strict=True)]


def _paint(canvas: np.ndarray, rings: list[np.ndarray]) -> None:
    """Fill rings, and paint the samples that they pass at half."""
    if rings:
        cv2.fillPoly(canvas, rings, 255, shift=SHIFT)
        cv2.polylines(canvas, rings, True, 128, shift=SHIFT)


def _compose(canvas: np.ndarray, outlines: Outlines, points: np.ndarray, index: int) -> None:
    """Paint the rings of one object in their order: one adds what it encloses, a hole removes it."""
    chosen = np.arange(*outlines.object_starts[index : index + 2])
    first, *others = _rings(points, outlines.ring_starts, chosen)
    _paint(canvas, [first])
    for ring, hole in zip(others, outlines.holes[chosen[1:]].tolist(), strict=True):
        part = np.zeros_like(canvas)
        _paint(part, [ring])
        np.copyto(canvas, np.minimum(canvas, 255 - part) if hole else np.maximum(canvas, part))
