"""Which boxes can be learned: `detect check` reports those that cannot, training refuses or leaves them out.

Axes: I images, N objects. `sizes` (I, 2) are the heights and widths of the images in pixels, 0 where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from detect.data.augment.transforms import MIN_SIDE

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

REACH = 1.0  # pixels that a box may reach out of its image: annotations are rounded
LARGEST = 8192  # pixels: the largest --imgsz
FARTHEST = 1e7  # pixels from the corner of an image: ten times its longest side; drawing fails where 32 bits end
BEYOND = f"more than {FARTHEST:,.0f} pixels away from any image"


def flat(annotations: Annotations) -> np.ndarray:
    """Return (N,) whether a box has no width or no height."""
    return np.asarray((annotations.boxes[:, 2:] <= 0).any(axis=1))


def beyond(boxes: np.ndarray) -> np.ndarray:
    """Return (N,) which boxes (N, 4) x, y, width, height have coordinates beyond any image that can be read."""
    if boxes.min(initial=0) >= -FARTHEST / 2 and boxes.max(initial=0) <= FARTHEST / 2:  # as nearly always
        return np.zeros(len(boxes), bool)
    with np.errstate(over="ignore"):  # the sum of two that are too large may be infinite
        edges = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return np.asarray((np.abs(edges) > FARTHEST).any(axis=1))


def objects(annotations: Annotations) -> np.ndarray:
    """Return (N,) which boxes are of an object that can be learned: no crowd regions, no flat boxes."""
    return ~annotations.crowd & ~flat(annotations)


def owners(annotations: Annotations) -> np.ndarray:
    """Return (N,) the index of the image of each box."""
    return np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))


def reach(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (N,) by how many pixels boxes (N, 4) x, y, width, height reach out of images of `sizes` (N, 2)."""
    return np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - sizes[:, ::-1]).max(axis=1)


def away(annotations: Annotations, sizes: np.ndarray) -> np.ndarray:
    """Return (N,) whether a box lies wholly outside its image; crowd regions and flat boxes do not count."""
    room = sizes[owners(annotations)][:, ::-1]
    low, high = annotations.boxes[:, :2], annotations.boxes[:, :2] + annotations.boxes[:, 2:]
    outside = (low >= room).any(axis=1) | (high <= 0).any(axis=1)
    return outside & (room > 0).all(axis=1) & objects(annotations)


def faults(annotations: Annotations, sizes: np.ndarray) -> Iterator[tuple[str, int, str]]:
    """Yield (kind, row, what is wrong) of each box that cannot be learned."""
    boxes, owner = annotations.boxes, owners(annotations)
    for row in np.flatnonzero(flat(annotations)).tolist():
        yield "flat", row, f"has a box of width {boxes[row, 2]:g} and height {boxes[row, 3]:g}"
    for row in np.flatnonzero(away(annotations, sizes)).tolist():
        (x, y, w, h), (height, width) = boxes[row].tolist(), sizes[owner[row]].tolist()
        where = f"x {x:g} to {x + w:g}, y {y:g} to {y + h:g}, in {width} x {height} pixels"
        yield "away", row, f"has a box wholly outside its image: {where}"


def called(annotations: Annotations, row: int) -> str:
    """Return how messages call the annotation in a row."""
    image = int(np.searchsorted(annotations.starts, row, side="right")) - 1
    number = row - int(annotations.starts[image]) + 1
    return f"annotation id {annotations.ids[row]} (object {number} of {annotations.file_name(image)})"


def in_first_pixel(annotations: Annotations, sizes: np.ndarray) -> np.ndarray:
    """Return (N,) whether a box lies within the first pixel of its image, as boxes relative to the image do."""
    end = annotations.boxes[:, :2] + annotations.boxes[:, 2:]
    inside = (annotations.boxes[:, :2] >= -0.5).all(axis=1) & (end <= 1.5).all(axis=1)
    return inside & (sizes[owners(annotations)].min(axis=1, initial=10**9) > 4) & objects(annotations)


def relative(annotations: Annotations, sizes: np.ndarray) -> str:
    """Return what is wrong if most boxes are relative to the image, 0 to 1; "" for boxes in pixels."""
    inside, count = int(in_first_pixel(annotations, sizes).sum()), int(objects(annotations).sum())
    if 2 * inside <= count:
        return ""
    return (
        f"{inside} of {count} boxes lie within the first pixel of their image: they are relative, 0 to 1, "
        "where pixels are expected; multiply them by the width and height of their images"
    )


def partly_relative(annotations: Annotations, sizes: np.ndarray) -> str:
    """Return one line on boxes that may be relative, 0 to 1, among boxes in pixels; "" for none."""
    rows = np.flatnonzero(in_first_pixel(annotations, sizes))
    if not len(rows):
        return ""
    return (
        f"{len(rows)} of {objects(annotations).sum()} boxes lie within the first pixel of their image, the first is "
        f"{called(annotations, rows[0])}: if they are relative, 0 to 1, multiply them by the width and height of their "
        "images"
    )


def out_of_images(annotations: Annotations, sizes: np.ndarray) -> str:
    """Return one line on the boxes that reach out of their images, with a guess at why where most do; "" for none."""
    rows = np.flatnonzero(~annotations.crowd & (sizes[owners(annotations)] > 0).all(axis=1))
    boxes, room = annotations.boxes[rows], sizes[owners(annotations)[rows]]
    out = int((reach(boxes, room) > REACH).sum())
    if not out:
        return ""
    line = f"{out} of {len(rows)} boxes reach more than a pixel out of their image: what lies outside is cut off"
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    if 2 * out > len(rows) and (corners[:, 2:] > 0).all() and (reach(corners, room) <= REACH).all():
        line += "; read as x1, y1, x2, y2 all fit: COCO's bbox is x, y, width, height"
    return line


def shown_sides(annotations: Annotations, sizes: np.ndarray, size: int, stretch: bool = False) -> np.ndarray:
    """Return (N,) the shorter side in pixels of each box, cut off at its image's edges, at image size `size`."""
    room = np.maximum(sizes[owners(annotations)], 1)[:, ::-1]
    low, high = annotations.boxes[:, :2].clip(0), np.minimum(annotations.boxes[:, :2] + annotations.boxes[:, 2:], room)
    scale = size / (room if stretch else room.max(axis=1, keepdims=True))
    return ((high - low) * scale).min(axis=1, initial=np.inf)


def too_small(annotations: Annotations, sizes: np.ndarray, size: int, stretch: bool = False) -> str:
    """Return what is wrong if all boxes are too small to be learned at image size `size`; else ""."""
    sides = shown_sides(annotations, sizes, size, stretch)[objects(annotations)]
    if not len(sides) or sides.max() >= MIN_SIDE:
        return ""
    better = 32 * math.ceil(size * MIN_SIDE / max(float(np.median(sides)), 1e-9) / 32)
    remedy = f"--imgsz {better} shows half of them" if better <= LARGEST else "cut the images into tiles"
    return (
        f"all {len(sides)} boxes are less than {MIN_SIDE:g} pixels wide or high at --imgsz {size}, "
        f"so there is nothing to learn: {remedy}"
    )


def partly_small(annotations: Annotations, sizes: np.ndarray, size: int, stretch: bool = False) -> str:
    """Return one line on the boxes that are too small to be learned at image size `size`; "" for none."""
    sides = shown_sides(annotations, sizes, size, stretch)[objects(annotations)]
    small = int((sides < MIN_SIDE).sum())
    if not small:
        return ""
    return (
        f"{small} of {len(sides)} boxes are less than {MIN_SIDE:g} pixels wide or high at --imgsz {size} and are not "
        "learned there: a larger --imgsz shows more of them"
    )
