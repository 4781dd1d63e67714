"""Statistics of a split: classes, sizes, places and brightness, and how well anchors fit.

Axes: I images, N objects.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from anchors.kmeans import kmeans, mean_iou, recall
from detect.data.annotations import Annotations
from detect.data.boxes import owners


def of_whole_images(annotations: Annotations, sizes: np.ndarray) -> bool:
    """Return whether all boxes fill their images, of `sizes` (I, 2): the labels are those of whole images."""
    room = sizes[owners(annotations)][:, ::-1]
    known = (room > 0).all(1)
    boxes = annotations.boxes
    return bool(known.any() and (boxes[known, :2] == 0).all() and (boxes[known, 2:] >= room[known] - 1).all())


def facts(
    annotations: Annotations, sizes: np.ndarray, size: int, brightness: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the statistics of a split: plain values, and for charts arrays.

    Args:
        annotations: the split.
        sizes: (I, 2) height and width of each image; 0 where unknown.
        size: image size in pixels that boxes are measured at.
        brightness: (I,) mean grey level of each image, NaN where it could not be read.

    Returns:
        Arrays of the objects in images of known size: `sides` (N, 2) at `size`, `aspects` (N,), `shares` (N,) of the
        sides of their images, `centers` (N, 2) x, y in 0..1. Arrays of images: `room` (I, 2) height and width,
        `per_image` (I,) objects, `brightness` (I,).
    """
    plain = ~annotations.crowd
    owner = owners(annotations)[plain]
    known = sizes[owner].max(1) > 0
    boxes, owner = annotations.boxes[plain][known], owner[known]
    sides, room = boxes[:, 2:], np.maximum(sizes[owner], 1)
    counts = np.bincount(annotations.labels[plain], minlength=len(annotations.names))
    shown = Counter(f"{w} x {h}" for h, w in sizes.tolist() if h)
    bright = np.full(len(annotations), np.nan) if brightness is None else brightness
    arrays = {
        "sides": sides * (size / room.max(1, keepdims=True)),
        "aspects": sides[:, 0] / np.maximum(sides[:, 1], 1e-9),
        "shares": np.sqrt(sides.prod(1) / room.prod(1)),
        "centers": (boxes[:, :2] + sides / 2) / room[:, ::-1],
        "room": sizes,
        "per_image": np.bincount(owners(annotations)[plain], minlength=len(annotations)),
        "brightness": bright[np.isfinite(bright)],
    }
    return {
        "file": str(annotations.path),
        "samples": {1: "signals", 2: "images", 3: "volumes"}[annotations.dims],
        "whole_images": annotations.dims != 2 or of_whole_images(annotations, sizes),
        "images": len(annotations),
        "without_objects": int((np.diff(annotations.starts) == 0).sum()),
        "objects": int(plain.sum()),
        "crowd_regions": int(annotations.crowd.sum()),
        "per_class": dict(zip(annotations.names, counts.tolist(), strict=True)),
        "image_sizes": dict(shown.most_common(10)),
        "objects_per_image": round(float(plain.sum() / max(1, len(annotations))), 2),
        "quantiles": {
            "box_side": _quantiles(np.sqrt(arrays["sides"].prod(1))),
            "aspect": _quantiles(arrays["aspects"]),
            "objects_per_image": _quantiles(arrays["per_image"]),
            "brightness": _quantiles(arrays["brightness"]),
        },
        **arrays,
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Seven of them, by their shares; nothing where there are no values."""
    shares = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    if not len(values):
        return {}
    return {f"{share:g}": round(float(v), 3) for share, v in zip(shares, np.quantile(values, shares), strict=True)}


def anchors_of(sides: np.ndarray, k: int, size: int) -> dict[str, Any]:
    """Return how well `k` anchors computed from box sides (N, 2) fit them; nothing where there are too few boxes."""
    found = torch.from_numpy(sides).float()
    found = found[(found > 0).all(dim=1) & found.isfinite().all(dim=1)]
    if len(found.unique(dim=0)) < k:
        return {}
    best = kmeans(found, k)
    rows = [[round(v, 2) for v in row] for row in best.tolist()]
    return {
        "imgsz": size,
        "anchors": rows,
        "mean_iou": round(float(mean_iou(found, best)), 4),
        "recall": round(float(recall(found, best)), 4),
    }
