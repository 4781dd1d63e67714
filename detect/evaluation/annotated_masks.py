"""Masks as compressed COCO RLE, on both sides of an evaluation; nothing is decoded.

Axes: I images, G objects, N detections.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import hotcoco.mask
import numpy as np

from detect.data.annotations import Annotations, known_sizes
from detect.data.outlines import Outlines
from detect.errors import UserError


class _Masks(NamedTuple):
    """The masks of a set of annotations: sizes (I, 2) height and width of its images, rles (G,) COCO dictionaries."""

    sizes: np.ndarray
    rles: np.ndarray


_CACHE: WeakKeyDictionary[Annotations, _Masks] = WeakKeyDictionary()  # training evaluates the same set every epoch


def annotated_masks(annotations: Annotations) -> np.ndarray:
    """The masks of all objects (G,), as COCO RLE dictionaries of their image's size.

    Raises:
        UserError: an object has no mask.
    """
    return _masks(annotations).rles


def image_sizes(annotations: Annotations) -> np.ndarray:
    """Height and width of every image (I, 2), of which the masks of objects are made. Raises as `annotated_masks`."""
    return _masks(annotations).sizes


def detected_masks(sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Detected masks as COCO RLE dictionaries (N,).

    Args:
        sizes: (N, 2) height and width of their images.
        counts: (N,) object, their compressed runs as bytes.
    """
    found = np.empty(len(counts), object)
    for row, (size, runs) in enumerate(zip(sizes.tolist(), counts, strict=True)):
        found[row] = {"size": size, "counts": runs}
    return found


def mask_areas(rles: np.ndarray) -> np.ndarray:
    """The pixels (N,) float64 of masks."""
    return np.asarray(hotcoco.mask.area(list(rles)), np.float64).reshape(len(rles))


def _masks(annotations: Annotations) -> _Masks:
    known = _CACHE.get(annotations)
    if known is None:
        known = _CACHE[annotations] = _rasterized(annotations)
    return known


def _rasterized(annotations: Annotations) -> _Masks:
    none = Outlines.of_polygons([[]] * len(annotations.ids))
    outlines = none if annotations.outlines is None else annotations.outlines
    missing, sizes = ~outlines.present, known_sizes(annotations)
    if missing.any():
        row = int(missing.argmax())
        raise UserError(
            f"{annotations.path}: annotation {annotations.ids[row]} has no mask, and models of masks are measured by "
            f"them ({int(missing.sum()):,} of {len(missing):,} have none): add a segmentation to each object"
        )
    rles = np.empty(len(missing), object)
    for image, (height, width) in enumerate(sizes.tolist()):
        for row in range(int(annotations.starts[image]), int(annotations.starts[image + 1])):
            counts = outlines.rle(row, (height, width))["counts"]
            rles[row] = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
    return _Masks(sizes, rles)
