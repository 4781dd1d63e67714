"""Average precision and recall by the COCO protocol (Lin et al. 2014, https://cocodataset.org/#detection-eval).

hotcoco does the matching; the precision and recall arrays are those of pycocotools, and the twelve numbers are taken
from them with pycocotools' own order of summation, so they are equal to the bit.

Axes: I images, N detections, T 10 IoU thresholds, R 101 recall levels, C classes, S 4 sizes (all, small, medium,
large), M 3 limits of detections in an image and class (1, 10, 100).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_engine import Truth, measure

# name -> array, IoU threshold (index into T; all of them: the whole slice), size, limit
NUMBERS: Mapping[str, tuple[str, slice, int, int]] = {
    "AP": ("precision", slice(None), 0, 2),
    "AP50": ("precision", slice(0, 1), 0, 2),
    "AP75": ("precision", slice(5, 6), 0, 2),
    "APs": ("precision", slice(None), 1, 2),
    "APm": ("precision", slice(None), 2, 2),
    "APl": ("precision", slice(None), 3, 2),
    "AR1": ("recall", slice(None), 0, 0),
    "AR10": ("recall", slice(None), 0, 1),
    "AR100": ("recall", slice(None), 0, 2),
    "ARs": ("recall", slice(None), 1, 2),
    "ARm": ("recall", slice(None), 2, 2),
    "ARl": ("recall", slice(None), 3, 2),
}


class Records(NamedTuple):
    """Detections as flat arrays, grouped by image: what ranks exchange.

    image_ids (I,) int64, each once; counts (I,) int64 detections of each, 0 for an image where nothing was found;
    boxes (N, 4) float64 x, y, width, height in pixels of the source image; scores (N,) float64; labels (N,) int64.
    """

    image_ids: np.ndarray
    counts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    @staticmethod
    def join(parts: list[Records]) -> Records:
        """All of them, end to end; of no parts, the empty record."""
        none = np.zeros(0, np.int64)
        empty = Records(none, none, np.zeros((0, 4)), np.zeros(0), none)
        return Records(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


class Summary(NamedTuple):
    """numbers: the twelve, -1 where there is no truth to measure by. precision (T, R, C, S, M), recall (T, C, S, M).

    per_class and per_class_ap50: class name -> AP and AP at IoU 0.5, None for a class without truth.
    """

    numbers: dict[str, float]
    per_class: dict[str, float | None]
    per_class_ap50: dict[str, float | None]
    precision: np.ndarray
    recall: np.ndarray


def summarize(store: Annotations, found: Records) -> Summary:
    """Measure detections of images of `store` against its truth. An image without a record has no detections."""
    order = np.sort(store.image_ids)  # the engine wants ids from 0; their order decides between ties
    image = np.repeat(np.searchsorted(order, store.image_ids), np.diff(store.starts))
    truth = Truth(image, store.labels, store.boxes, store.areas, store.crowd, store.ids)
    image = np.repeat(np.searchsorted(order, found.image_ids), found.counts)
    rows = np.column_stack([image, found.boxes, found.scores, found.labels]).astype(np.float64)
    precision, recall = measure(len(store), len(store.names), truth, rows)
    arrays = {"precision": precision, "recall": recall}
    numbers = {
        name: mean_defined(arrays[which][threshold][..., size, limit])
        for name, (which, threshold, size, limit) in NUMBERS.items()
    }
    best = precision[..., 0, 2]
    return Summary(
        {name: -1.0 if value is None else value for name, value in numbers.items()},
        {name: mean_defined(best[:, :, label]) for label, name in enumerate(store.names)},
        {name: mean_defined(best[0, :, label]) for label, name in enumerate(store.names)},
        precision,
        recall,
    )


def mean_defined(values: np.ndarray) -> float | None:
    """The mean of what is defined (not -1), None where nothing is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else None
