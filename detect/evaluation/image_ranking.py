"""Which images of a split went best and worst, and which wrong detections are the most surprising.

Axes: I images, N detections.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.tide import RIGHT, ErrorAnalysis


class ImageCounts(NamedTuple):
    """Of each image (I,): true positives, detections that count, and annotated objects."""

    right: np.ndarray
    predicted: np.ndarray
    annotated: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 of each image (I,), 0 where there is nothing."""
        return 2 * self.right / np.maximum(1, self.predicted + self.annotated)


def count_images(annotations: Annotations, errors: ErrorAnalysis, conf: float) -> ImageCounts:
    """The counts of each image, of detections that score at least `conf`."""
    images = len(annotations)
    confident = (errors.scores >= conf) & errors.counts
    owner = np.repeat(np.arange(images), np.diff(annotations.starts))[~annotations.crowd]
    counted = (errors.image[confident & (errors.kind == RIGHT)], errors.image[confident], owner)
    return ImageCounts(*(np.bincount(one, minlength=images) for one in counted))


def best_images(counts: ImageCounts, most: int) -> np.ndarray:
    """Indices of the images with the highest F1, those with the most objects first; images without objects are out."""
    return _ranked(counts, -counts.f1)[:most]


def worst_images(counts: ImageCounts, most: int) -> np.ndarray:
    """Indices of the images with the lowest F1, those with the most objects first; images without objects are out."""
    return _ranked(counts, counts.f1)[:most]


def _ranked(counts: ImageCounts, first: np.ndarray) -> np.ndarray:
    some = np.flatnonzero(counts.annotated > 0)
    return some[np.lexsort((-counts.annotated[some], first[some]))]


def surprising_errors(errors: ErrorAnalysis, most: int) -> list[int]:
    """Indices of the wrong detections with the highest scores, one of each image."""
    wrong = np.flatnonzero((errors.kind != RIGHT) & errors.counts)
    chosen: dict[int, int] = {}
    for n in wrong[np.argsort(-errors.scores[wrong], kind="stable")].tolist():
        if len(chosen) == most:
            break
        chosen.setdefault(int(errors.image[n]), n)
    return list(chosen.values())
